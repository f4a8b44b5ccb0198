//! What is done about an identity that no longer holds, or a broker that this agent does not recognise:
//!
//! | what is seen | what is done |
//! |---|---|
//! | the broker's CA is unknown | follow the signed statements from the trust bundle that was kept ([`crate::trust`]) |
//! | the certificate has expired, or its CA is trusted no more | come back by the recovery key ([`crate::recovery`]) |
//! | a newer certificate of this instance is in use | say so with the recovery key, for the broker to raise the alarm; end. A broker that was restored from a backup knows no certificate any more, and gives a new one: go on |
//! | quarantined, banned, unknown | end: asking again only makes noise |
//!
//! Everything else goes away by waiting. The files stay whatever happens: an application that runs goes on running.

use std::sync::Arc;
use std::time::Duration;

use super::End;
use crate::connection::{Broker, DialError};
use crate::disk::PrivateDir;
use crate::identity::Identity;
use crate::recovery;
use crate::refusal::{self, Dismissal};
use crate::renewal::pending::RequestError;
use crate::{clock, trust};

/// Looks after the identity.
#[derive(Debug)]
pub(crate) struct Ailing {
    /// Where it is kept.
    pub(crate) data: PrivateDir,
    /// Whose it is.
    pub(crate) identity: Arc<Identity>,
    /// Whom to ask.
    pub(crate) broker: Arc<Broker>,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cure {
    /// The agent ends.
    Dismissed(Dismissal),
    /// Something has changed for the better.
    ConnectAgain,
    /// Nothing but time helps; at least so long, beyond the usual.
    Wait(Duration),
}

/// What is wrong.
#[derive(Debug, PartialEq, Eq)]
enum Diagnosis {
    Nothing,
    Dismissed(Dismissal),
    Replaced,
    UnknownAuthority,
    NoLongerGood,
}

impl Ailing {
    /// After a stream ended that was begun with the certificate of this generation.
    pub(super) async fn look_at(&self, end: &End, generation: u64) -> Cure {
        let renewed = generation != self.identity.certificate_generation();
        match diagnose(end, renewed, self.identity.is_good(clock::now())) {
            Diagnosis::Nothing => Cure::Wait(Duration::ZERO),
            Diagnosis::Dismissed(dismissal) => Cure::Dismissed(dismissal),
            Diagnosis::UnknownAuthority => self.follow().await,
            Diagnosis::NoLongerGood => self.recover().await,
            Diagnosis::Replaced => self.tell().await,
        }
    }

    async fn follow(&self) -> Cure {
        match trust::follow(&self.identity, &self.broker).await {
            Ok(version) => {
                tracing::warn!(
                    version,
                    "the broker has another CA; signed statements lead to it, and it is trusted now"
                );
                Cure::ConnectAgain
            }
            Err(error) => {
                tracing::error!(%error, "the broker's CA is unknown to this agent");
                Cure::Wait(Duration::ZERO)
            }
        }
    }

    async fn recover(&self) -> Cure {
        match recovery::recover(&self.data, &self.identity, &self.broker).await {
            Ok(()) => {
                let expires_at = clock::rfc3339(self.identity.expires_at());
                tracing::warn!(
                    expires_at,
                    "the certificate was no longer good; the recovery key has brought a new one"
                );
                Cure::ConnectAgain
            }
            Err(RequestError::Dial(DialError::UnknownAuthority { .. })) => self.follow().await,
            Err(error) => {
                tracing::error!(%error, "the certificate is no longer good, and could not be recovered");
                verdict(&error)
            }
        }
    }

    /// Two agents with one identity: whichever is the thief, the broker gets to know. Or a broker that was restored: it says
    /// the same, and lets whoever has the recovery key come back.
    async fn tell(&self) -> Cure {
        let told = recovery::recover(&self.data, &self.identity, &self.broker).await;
        match &told {
            Ok(()) => {
                tracing::warn!("the broker knew no certificate of this agent; the recovery key has brought a new one");
            }
            Err(error) => {
                tracing::error!(%error, "another agent uses this identity; this is what the broker says to it");
            }
        }
        after_telling(told)
    }
}

/// An agent that ends before the broker has heard it raises no alarm: who has the other copy must not be able to bring
/// that about by keeping the broker busy.
fn after_telling(told: Result<(), RequestError>) -> Cure {
    match told {
        Err(RequestError::Refused(status)) if refusal::is_temporary(&status) => {
            Cure::Wait(refusal::retry_after(&status).unwrap_or_default())
        }
        Err(RequestError::Dial(_) | RequestError::TimedOut) => Cure::Wait(Duration::ZERO),
        Ok(()) => Cure::ConnectAgain,
        Err(_) => Cure::Dismissed(Dismissal::Replaced),
    }
}

fn diagnose(end: &End, renewed: bool, good: bool) -> Diagnosis {
    match end {
        End::Renewed | End::Dial(DialError::Clock { .. }) => Diagnosis::Nothing,
        End::Dial(DialError::UnknownAuthority { .. }) => Diagnosis::UnknownAuthority,
        // A refusal of the certificate before the one in use now dismisses nobody.
        End::Refused(_) if renewed => Diagnosis::Nothing,
        End::Refused(status) => match Dismissal::of(status) {
            Some(Dismissal::Replaced) => Diagnosis::Replaced,
            Some(dismissal) => Diagnosis::Dismissed(dismissal),
            None if good => Diagnosis::Nothing,
            None => Diagnosis::NoLongerGood,
        },
        // Judged only when the broker has not let us in. If its certificate is not valid by our clock either, it is our
        // clock that is wrong, and may be set any moment.
        End::Drained(_) | End::Dial(_) | End::Closed | End::TimedOut if good => Diagnosis::Nothing,
        End::Drained(_) | End::Dial(_) | End::Closed | End::TimedOut => Diagnosis::NoLongerGood,
    }
}

fn verdict(error: &RequestError) -> Cure {
    let RequestError::Refused(status) = error else { return Cure::Wait(Duration::ZERO) };
    if let Some(dismissal) = Dismissal::of(status) {
        return Cure::Dismissed(dismissal);
    }
    if refusal::is_temporary(status) {
        return Cure::Wait(refusal::retry_after(status).unwrap_or_default());
    }
    Cure::Dismissed(Dismissal::Expired)
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    fn refused(code: Code, reason: &str) -> Box<Status> {
        Box::new(Status::with_error_details(code, "no", ErrorDetails::with_error_info(reason, "homeward", [])))
    }

    fn dial(error: DialError) -> End {
        End::Dial(error)
    }

    fn url() -> Box<url::Url> {
        Box::new("https://login.example".parse().unwrap())
    }

    #[test]
    fn each_end_has_its_diagnosis() {
        let replaced = || End::Refused(refused(Code::Unauthenticated, "CERTIFICATE_REPLACED"));
        let quarantined = || End::Refused(refused(Code::PermissionDenied, "INSTANCE_QUARANTINED"));
        let unknown = || End::Refused(refused(Code::Unauthenticated, "AGENT_UNKNOWN"));
        let clock = || dial(DialError::Clock { now: clock::now() });
        let stranger = || dial(DialError::UnknownAuthority { url: url() });
        for (end, renewed, good, expected) in [
            (End::Closed, false, true, Diagnosis::Nothing),
            (End::Closed, false, false, Diagnosis::NoLongerGood),
            (End::Renewed, true, false, Diagnosis::Nothing),
            (clock(), false, false, Diagnosis::Nothing),
            (stranger(), false, false, Diagnosis::UnknownAuthority),
            (replaced(), false, true, Diagnosis::Replaced),
            (replaced(), true, true, Diagnosis::Nothing),
            (quarantined(), false, true, Diagnosis::Dismissed(Dismissal::Quarantined)),
            (quarantined(), false, false, Diagnosis::Dismissed(Dismissal::Quarantined)),
            (unknown(), false, true, Diagnosis::Dismissed(Dismissal::Unknown)),
            (End::Refused(refused(Code::Unavailable, "DRAINING")), false, true, Diagnosis::Nothing),
        ] {
            assert_eq!(diagnose(&end, renewed, good), expected, "{end}");
        }
    }

    #[test]
    fn a_recovery_ends_the_agent_only_when_it_is_refused_for_good() {
        let of = |code, reason| verdict(&RequestError::Refused(refused(code, reason)));
        assert_eq!(of(Code::PermissionDenied, "RECOVERY_REFUSED"), Cure::Dismissed(Dismissal::Expired));
        assert_eq!(of(Code::PermissionDenied, "INSTANCE_QUARANTINED"), Cure::Dismissed(Dismissal::Quarantined));
        assert_eq!(of(Code::ResourceExhausted, "RATE_LIMITED"), Cure::Wait(Duration::ZERO));
        assert_eq!(verdict(&RequestError::TimedOut), Cure::Wait(Duration::ZERO));
    }

    #[test]
    fn an_agent_whose_identity_is_used_elsewhere_ends_once_the_broker_has_heard_it() {
        let after = |code, reason| after_telling(Err(RequestError::Refused(refused(code, reason))));
        for (code, reason) in [
            (Code::ResourceExhausted, "RATE_LIMITED"),
            (Code::Unavailable, "STORE_UNAVAILABLE"),
            (Code::Aborted, "CONFLICT"),
        ] {
            assert_eq!(after(code, reason), Cure::Wait(Duration::ZERO), "{reason}");
        }
        for reason in ["GENERATION_MISMATCH", "INSTANCE_QUARANTINED", "RECOVERY_REFUSED"] {
            assert_eq!(after(Code::PermissionDenied, reason), Cure::Dismissed(Dismissal::Replaced), "{reason}");
        }
        assert_eq!(after_telling(Err(RequestError::TimedOut)), Cure::Wait(Duration::ZERO));
        assert_eq!(after_telling(Ok(())), Cure::ConnectAgain);
    }
}
