//! The certificate of the public address.

use homeward_proto::v1;

use crate::grpc::admin::Service;
use crate::grpc::wire_time;

impl Service {
    pub(super) fn public_certificate(&self) -> v1::GetPublicCertificateResponse {
        let (served, acme, host) = (self.tls.served(), self.tls.acme().map(|acme| acme.status()), self.issuer.host());
        let source = match (&acme, &served) {
            (Some(_), _) => "acme",
            (None, Some(_)) => "files",
            (None, None) => "",
        };
        let mut shown = v1::GetPublicCertificateResponse {
            source: source.to_owned(),
            valid_for_host: served.as_ref().is_some_and(|served| served.is_for(&host)),
            host,
            begin_time: served.as_ref().map(|served| wire_time(served.not_before())),
            expire_time: served.as_ref().map(|served| wire_time(served.not_after())),
            remark: self.tls.remark().unwrap_or_default(),
            ..v1::GetPublicCertificateResponse::default()
        };
        if let Some(acme) = acme {
            shown.directory = acme.directory;
            shown.next_order_time = Some(wire_time(acme.next_at.max(self.clock.now())));
            shown.failure = acme.failure.unwrap_or_default();
            shown.failed_tries = if shown.failure.is_empty() { 0 } else { acme.tries };
        }
        shown
    }
}
