//! What a record says: an [`Event`] by the flow that decided it, and who made it happen, by [`Origin`].

use std::borrow::Cow;
use std::fmt;

use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};

use crate::registry::{ClientId, SessionId, Subject, UserId};

/// What happened. The names are for programs, and never change; `docs/audit.md` has one line on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A broker begins to write here.
    BrokerStarted,
    /// It stops in good order.
    BrokerStopped,
    /// What was found when writing went on: the end is torn, or is not the one that the store knows.
    RecordsMissing,
    /// So many things that strangers did, from one network or from all, are left out.
    RecordsLeftOut,
    /// Old days are deleted.
    RecordsExpired,
    /// A relying party has sent a user.
    LoginBegun,
    /// A browser gets a page that says why its login cannot go on.
    LoginRefused,
    /// A home has said who the user is, or why it does not.
    HomeAnswered,
    /// The relying party gets a code, or hears why not.
    LoginDecided,
    /// The user agrees to what is released.
    ConsentGiven,
    /// The user takes that back.
    ConsentWithdrawn,
    /// A device is let in by its user, or not.
    DeviceDecided,
    /// A client has not shown who it is.
    ClientRefused,
    /// A client gets tokens.
    TokensIssued,
    /// A client gets none.
    TokensRefused,
    /// A code or refresh token came a second time: its family is ended.
    TokenReplayed,
    /// A client gives a token back.
    TokenRevoked,
    /// A home says that one of its users logged out there, may not log in any more, or is gone.
    UserReported,
    /// A session is over.
    SessionEnded,
    /// Lasting grants of a user are over: all that he has, or the oldest of too many.
    GrantsEnded,
    /// A user says that his accounts at two homes are one person's.
    HomesLinked,
    /// They are not any more.
    HomesUnlinked,
    /// A join token is made.
    JoinTokenCreated,
    /// A join token is taken back.
    JoinTokenRevoked,
    /// An agent has enrolled: its join token is used up.
    InstanceEnrolled,
    /// An agent may not enrol, or not come back.
    EnrolmentRefused,
    /// An agent gets its next certificate.
    CertificateRenewed,
    /// An agent uses a certificate for the first time.
    CertificateConfirmed,
    /// Two machines have what only one may have.
    CloneAlarm,
    /// An instance is cut off.
    InstanceQuarantined,
    /// And is let in again.
    InstanceReleased,
    /// An instance is gone for good.
    InstanceEvicted,
    /// What an instance must and may do is another.
    InstancePolicyChanged,
    /// A relying party accepts a home, or on other terms.
    TrustAllowed,
    /// It does not any more.
    TrustDenied,
    /// A home without agent is made or changed.
    UpstreamPut,
    /// A home without agent is gone.
    UpstreamRemoved,
    /// Clients may register themselves.
    RegistrationOpened,
    /// They may not any more.
    RegistrationClosed,
    /// A client has registered itself.
    ClientRegistered,
    /// It has changed what it said of itself.
    ClientChanged,
    /// It has removed itself.
    ClientRemoved,
    /// What a client must and may do is another.
    ClientPolicyChanged,
    /// Something begins to turn.
    RotationBegun,
    /// It comes to its next phase.
    RotationMoved,
    /// Its gate has failed.
    RotationPaused,
    /// It waits anew.
    RotationResumed,
    /// It goes on without those who have not acknowledged.
    RotationForced,
    /// It is taken back.
    RotationRolledBack,
    /// A retired signing key is deleted.
    SigningKeyGone,
    /// The keys that seal are turned.
    KekTurned,
    /// A backup is made.
    BackupMade,
    /// The store was filled from a backup.
    StoreRestored,
    /// The federation was moved into another store.
    StoreMigrated,
    /// What all brokers agree on is another.
    SettingsChanged,
    /// Ops want a new certificate for the public address before its time.
    PublicCertificateWanted,
    /// A CA has given one.
    PublicCertificateObtained,
    /// A logout that was given up is tried again by order of ops.
    LogoutRetried,
    /// A command of ops is refused, or somebody else's is.
    AdminRefused,
    /// A code that lets a browser into the web console is made.
    ConsoleCodeCreated,
    /// A browser is signed in to the web console.
    ConsoleEntered,
    /// A browser is not let into the web console.
    ConsoleRefused,
    /// A session of the web console is over.
    ConsoleLeft,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 63] = [
        Self::BrokerStarted,
        Self::BrokerStopped,
        Self::RecordsMissing,
        Self::RecordsLeftOut,
        Self::RecordsExpired,
        Self::LoginBegun,
        Self::LoginRefused,
        Self::HomeAnswered,
        Self::LoginDecided,
        Self::ConsentGiven,
        Self::ConsentWithdrawn,
        Self::DeviceDecided,
        Self::ClientRefused,
        Self::TokensIssued,
        Self::TokensRefused,
        Self::TokenReplayed,
        Self::TokenRevoked,
        Self::UserReported,
        Self::SessionEnded,
        Self::GrantsEnded,
        Self::HomesLinked,
        Self::HomesUnlinked,
        Self::JoinTokenCreated,
        Self::JoinTokenRevoked,
        Self::InstanceEnrolled,
        Self::EnrolmentRefused,
        Self::CertificateRenewed,
        Self::CertificateConfirmed,
        Self::CloneAlarm,
        Self::InstanceQuarantined,
        Self::InstanceReleased,
        Self::InstanceEvicted,
        Self::InstancePolicyChanged,
        Self::TrustAllowed,
        Self::TrustDenied,
        Self::UpstreamPut,
        Self::UpstreamRemoved,
        Self::RegistrationOpened,
        Self::RegistrationClosed,
        Self::ClientRegistered,
        Self::ClientChanged,
        Self::ClientRemoved,
        Self::ClientPolicyChanged,
        Self::RotationBegun,
        Self::RotationMoved,
        Self::RotationPaused,
        Self::RotationResumed,
        Self::RotationForced,
        Self::RotationRolledBack,
        Self::SigningKeyGone,
        Self::KekTurned,
        Self::BackupMade,
        Self::StoreRestored,
        Self::StoreMigrated,
        Self::SettingsChanged,
        Self::PublicCertificateWanted,
        Self::PublicCertificateObtained,
        Self::LogoutRetried,
        Self::AdminRefused,
        Self::ConsoleCodeCreated,
        Self::ConsoleEntered,
        Self::ConsoleRefused,
        Self::ConsoleLeft,
    ];

    /// Whether anybody who reaches a port can have any number of it written.
    pub(super) const fn is_of_strangers(self) -> bool {
        matches!(
            self,
            Self::LoginBegun
                | Self::LoginRefused
                | Self::ClientRefused
                | Self::TokensRefused
                | Self::EnrolmentRefused
                | Self::ConsoleRefused
        )
    }
}

impl fmt::Display for Kind {
    /// As it is written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// How it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is so.
    #[default]
    Done,
    /// A rule says no.
    Refused,
}

impl fmt::Display for Outcome {
    /// As it is written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// One decision or change. Its fields are names and ids of our own making: no type that holds a secret, an e-mail address
/// or a user's name goes in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    #[serde(rename = "event")]
    pub kind: Kind,
    /// How it went.
    pub outcome: Outcome,
    /// Why it was refused: as the one who asked was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
    /// Whom it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceName>,
    /// Who vouches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home: Option<InstanceName>,
    /// Who asks for a login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relying_party: Option<InstanceName>,
    /// Its client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The user as this relying party knows him.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The user as nobody but the broker knows him.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The session: `sid` of its tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
    /// The id of what was made or changed, where it is none of the above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// What programs need not understand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Cow<'static, str>>,
}

impl Event {
    /// That this was done.
    pub const fn new(kind: Kind) -> Self {
        Self {
            kind,
            outcome: Outcome::Done,
            reason: None,
            instance: None,
            home: None,
            relying_party: None,
            client: None,
            subject: None,
            user: None,
            session: None,
            transaction: None,
            object: None,
            detail: None,
        }
    }

    /// It was refused, for a reason that programs know.
    pub fn refused(self, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { outcome: Outcome::Refused, reason: Some(reason.into()), ..self }
    }

    /// Whom it concerns.
    pub fn instance(self, name: &InstanceName) -> Self {
        Self { instance: Some(name.clone()), ..self }
    }

    /// Who vouches.
    pub fn home(self, name: &InstanceName) -> Self {
        Self { home: Some(name.clone()), ..self }
    }

    /// Who asks for a login.
    pub fn relying_party(self, name: &InstanceName) -> Self {
        Self { relying_party: Some(name.clone()), ..self }
    }

    /// Its client.
    pub fn client(self, id: &ClientId) -> Self {
        Self { client: Some(id.to_string()), ..self }
    }

    /// The user as this relying party knows him.
    pub fn subject(self, subject: &Subject) -> Self {
        Self { subject: Some(subject.to_string()), ..self }
    }

    /// The user as nobody but the broker knows him.
    pub fn user(self, user: &UserId) -> Self {
        Self { user: Some(user.as_str().to_owned()), ..self }
    }

    /// The session.
    pub fn session(self, id: &SessionId) -> Self {
        Self { session: Some(id.to_string()), ..self }
    }

    /// The login.
    pub fn transaction(self, id: impl fmt::Display) -> Self {
        Self { transaction: Some(id.to_string()), ..self }
    }

    /// The id of what was made or changed. Never a secret, and never what a stranger has typed.
    pub fn object(self, id: impl fmt::Display) -> Self {
        Self { object: Some(id.to_string()), ..self }
    }

    /// What programs need not understand. Never a secret, and never what a stranger has typed.
    pub fn detail(self, words: impl Into<Cow<'static, str>>) -> Self {
        Self { detail: Some(words.into()), ..self }
    }
}
