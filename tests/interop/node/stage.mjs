// What a scenario has of the stage: where the broker is, a token to register with, and somebody with a browser, to whom
// it speaks by JSON lines: one question on standard output, one answer on standard input.

import assert from 'node:assert/strict'
import { createInterface } from 'node:readline'

// { issuer, initialAccessToken, redirectUri, … }: see node.py.
export const stage = JSON.parse(process.argv[2])

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]()

// Asks the person or the operator for something and waits until it is done.
export async function ask(question) {
  process.stdout.write(`${JSON.stringify(question)}\n`)
  const { value, done } = await answers.next()
  assert(!done, 'nobody is there any more')
  return JSON.parse(value)
}

// Sends the person's browser to an address and returns what the callback got: its URL, or the POST of a form_post.
export async function visit(url, redirectUri = stage.redirectUri) {
  const arrival = await ask({ visit: url.toString(), redirectUri })
  if (!arrival.posted) return new URL(arrival.url)
  return new Request(arrival.url, { method: 'POST', body: new URLSearchParams(arrival.parameters) })
}

// A key pair of a client, and its public half as it is registered.
export async function keyPair(alg, kid) {
  const parameters = {
    ES256: { name: 'ECDSA', namedCurve: 'P-256' },
    PS256: { name: 'RSA-PSS', hash: 'SHA-256', modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]) },
    RS256: { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256', modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]) },
    EdDSA: { name: 'Ed25519' },
  }[alg]
  const pair = await crypto.subtle.generateKey(parameters, true, ['sign', 'verify'])
  const { kty, crv, x, y, n, e } = await crypto.subtle.exportKey('jwk', pair.publicKey)
  const jwk = JSON.parse(JSON.stringify({ kty, crv, x, y, n, e, kid, alg, use: 'sig' }))
  return { ...pair, jwk, signing: { key: pair.privateKey, kid } }
}

// That something is refused, and with which OAuth error.
export async function refused(promise, error) {
  await assert.rejects(promise, (thrown) => {
    assert.equal(thrown.error ?? thrown.cause?.error, error, `${thrown}: ${JSON.stringify(thrown.cause)}`)
    return true
  })
}

// The last line: what pytest may want to look at.
export function done(result = {}) {
  process.stdout.write(`${JSON.stringify({ done: result })}\n`)
  process.exit(0)
}
