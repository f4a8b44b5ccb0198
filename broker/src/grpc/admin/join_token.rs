//! Join tokens: what ops do with them, and how the contract writes them.

use std::time::Duration;

use homeward_certs::join_token::JoinTokenId;
use homeward_proto::v1;
use secrecy::ExposeSecret as _;
use tonic::Status;

use crate::clock::Timestamp;
use crate::enrolment::{JoinTokenOrder, JoinTokenState, ListedJoinToken};
use crate::grpc::admin::page::page;
use crate::grpc::admin::{MAX_NOTE, Service, name};
use crate::grpc::status::{self, Reason};
use crate::grpc::wire_time;

/// How long a join token lives if nobody says otherwise.
const LIFETIME: Duration = Duration::from_secs(30 * 60);

impl Service {
    pub(super) async fn create_token(
        &self,
        request: v1::CreateJoinTokenRequest,
        creator: String,
    ) -> Result<v1::CreateJoinTokenResponse, Status> {
        let lifetime = request.lifetime_duration.map(Duration::try_from).transpose();
        if request.note.chars().count() > MAX_NOTE || request.note.chars().any(char::is_control) {
            return Err(status::refused(Reason::FieldInvalid("note")));
        }
        let order = JoinTokenOrder {
            instance: name(&request.instance)?,
            lifetime: lifetime
                .map_err(|_| status::refused(Reason::FieldInvalid("lifetime_duration")))?
                .unwrap_or(LIFETIME),
            replace: request.replace,
            creator,
            note: request.note,
        };
        let now = self.clock.now();
        let (text, listed) =
            self.enrolment.create_token(order, now).await.map_err(|error| status::enrolment(&error))?;
        Ok(v1::CreateJoinTokenResponse {
            text: text.expose_secret().to_owned(),
            join_token: Some(join_token(&listed, now)),
        })
    }

    pub(super) async fn join_tokens(
        &self,
        request: &v1::ListJoinTokensRequest,
    ) -> Result<v1::ListJoinTokensResponse, Status> {
        let now = self.clock.now();
        let all = self.enrolment.list_tokens().await.map_err(|error| status::enrolment(&error))?;
        let tokens = all.iter().map(|listed| (listed.id.to_string(), join_token(listed, now))).collect();
        let (join_tokens, next_page_token) = page(tokens, request.page_size, &request.page_token);
        Ok(v1::ListJoinTokensResponse { join_tokens, next_page_token })
    }

    pub(super) async fn revoke_token(&self, id: &str) -> Result<v1::JoinToken, Status> {
        let id = id.parse::<JoinTokenId>().map_err(|error| status::invalid(&error))?;
        let listed = self.enrolment.revoke_token(id).await.map_err(|error| status::enrolment(&error))?;
        Ok(join_token(&listed, self.clock.now()))
    }
}

/// A join token without its secret.
fn join_token(listed: &ListedJoinToken, now: Timestamp) -> v1::JoinToken {
    let token = &listed.token;
    let state = match token.state {
        JoinTokenState::Issued if token.expires_at <= now => v1::JoinTokenState::Expired,
        JoinTokenState::Issued => v1::JoinTokenState::Issued,
        JoinTokenState::Claimed(_) => v1::JoinTokenState::Claimed,
        JoinTokenState::Confirmed(_) => v1::JoinTokenState::Confirmed,
        JoinTokenState::Revoked => v1::JoinTokenState::Revoked,
    };
    v1::JoinToken {
        id: listed.id.to_string(),
        instance: token.instance.to_string(),
        create_time: Some(wire_time(token.created_at)),
        expire_time: Some(wire_time(token.expires_at)),
        state: state.into(),
        creator: token.creator.clone(),
        note: token.note.clone(),
    }
}
