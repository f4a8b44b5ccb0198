//! Links of users' homes: what ops see and end.

use homeward_proto::v1;
use tonic::Status;

use crate::grpc::admin::Service;
use crate::grpc::admin::page::page_size;
use crate::grpc::status::{self, Reason};
use crate::grpc::wire_time;
use crate::registry::{Link, LinkId, LinkIdError, LinkVoid, LinkedAccount, Snapshot};

impl Service {
    /// A page of links.
    pub(super) async fn links(&self, request: &v1::ListLinksRequest) -> Result<v1::ListLinksResponse, Status> {
        let after = Some(request.page_token.as_str()).filter(|token| !token.is_empty());
        let page = self.registry.links.page(after, page_size(request.page_size)).await;
        let (links, next) = page.map_err(|error| status::store(&error))?;
        let snapshot = self.registry.snapshot();
        let links = links.iter().map(|link| wire_link(link, &snapshot)).collect();
        Ok(v1::ListLinksResponse { links, next_page_token: next.unwrap_or_default() })
    }

    /// Ends a link, and all that its alias has.
    pub(super) async fn unlink(&self, text: &str) -> Result<v1::EndLinkResponse, Status> {
        let id: LinkId = text.parse().map_err(|error: LinkIdError| status::invalid(&error))?;
        let found = self.registry.links.find(&id).await.map_err(|error| status::store(&error))?;
        let link = found.ok_or_else(|| status::refused(Reason::LinkUnknown))?;
        let ended = self.users.unlink(&link, "by order of ops").await?;
        let sessions_ended = u32::try_from(ended).unwrap_or(u32::MAX);
        Ok(v1::EndLinkResponse { link: Some(wire_link(&link, &self.registry.snapshot())), sessions_ended })
    }
}

fn wire_link(link: &Link, snapshot: &Snapshot) -> v1::Link {
    let named = |account: &LinkedAccount| format!("{}@{}", account.username, account.home);
    let void_reason = match snapshot.judge_link(link) {
        Ok(()) => "",
        Err(LinkVoid::Over) => "it has ended, what came in by it not yet: end it again",
        Err(LinkVoid::Gone) => "a home is not here any more",
        Err(LinkVoid::CutOff) => "a home is in quarantine",
        Err(LinkVoid::CutOffSince) => "a home was in quarantine since",
    };
    v1::Link {
        id: link.id.to_string(),
        primary: named(&link.primary),
        alias: named(&link.alias),
        create_time: Some(wire_time(link.made_at)),
        void_reason: void_reason.to_owned(),
    }
}
