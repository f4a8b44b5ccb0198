// The answer comes as a form that the browser posts to the callback (OAuth 2.0 Form Post Response Mode).

import assert from 'node:assert/strict'
import * as client from 'openid-client'
import { done, visit } from '../stage.mjs'
import { areAlices, registered, transaction } from './login.mjs'

const config = await registered()
const { request, checks } = await transaction({ response_mode: 'form_post' })
const arrived = await visit(client.buildAuthorizationUrl(config, request))
assert.equal(arrived.method, 'POST')
await areAlices(config, await client.authorizationCodeGrant(config, arrived, checks))
done()
