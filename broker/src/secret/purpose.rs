//! What things are sealed for.

/// What something is sealed for. The texts are stored: never change one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The CA's private key.
    AuthorityKey,
    /// A private key that signs ID tokens.
    SigningKey,
    /// The key that makes subjects.
    SubjectKey,
    /// The key that a join token's proof is checked with.
    JoinToken,
    /// A client secret on its way to its agent.
    ClientSecret,
    /// A login transaction in the user's hands, before the home is chosen.
    LoginTransaction,
    /// A login transaction in the user's hands, on the way to the home.
    Ticket,
    /// What an agent has to sign to come back by its recovery key.
    RecoveryChallenge,
    /// An authorization code.
    Code,
    /// An access token.
    AccessToken,
    /// A refresh token.
    RefreshToken,
    /// A login transaction in the user's hands, while consent is asked for.
    Consent,
    /// A value that a client has to put into its proofs (RFC 9449 8).
    DpopNonce,
    /// The broker's own client secret at an identity provider.
    UpstreamSecret,
    /// What a browser keeps of a login while it is at an identity provider.
    UpstreamLogin,
    /// What an agent of another broker is asked, and answers.
    Question,
    /// The broker's account at the CA of its public address.
    AcmeAccount,
    /// The private key of the certificate of the public address.
    ServerKey,
    /// A link of two homes in the user's hands, while he shows that both accounts are his.
    Link,
}

impl Purpose {
    /// All of them, in their order.
    pub(super) const ALL: [Self; 19] = [
        Self::AuthorityKey,
        Self::SigningKey,
        Self::SubjectKey,
        Self::JoinToken,
        Self::ClientSecret,
        Self::LoginTransaction,
        Self::Ticket,
        Self::RecoveryChallenge,
        Self::Code,
        Self::AccessToken,
        Self::RefreshToken,
        Self::Consent,
        Self::DpopNonce,
        Self::UpstreamSecret,
        Self::UpstreamLogin,
        Self::Question,
        Self::AcmeAccount,
        Self::ServerKey,
        Self::Link,
    ];

    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::AuthorityKey => "homeward authority key 1",
            Self::SigningKey => "homeward signing key 1",
            Self::SubjectKey => "homeward subject key 1",
            Self::JoinToken => "homeward join token 1",
            Self::ClientSecret => "homeward client secret 1",
            Self::LoginTransaction => "homeward login transaction 1",
            Self::Ticket => "homeward ticket 1",
            Self::RecoveryChallenge => "homeward recovery challenge 1",
            Self::Code => "homeward code 1",
            Self::AccessToken => "homeward access token 1",
            Self::RefreshToken => "homeward refresh token 1",
            Self::Consent => "homeward consent 1",
            Self::DpopNonce => "homeward dpop nonce 1",
            Self::UpstreamSecret => "homeward upstream secret 1",
            Self::UpstreamLogin => "homeward upstream login 1",
            Self::Question => "homeward question 1",
            Self::AcmeAccount => "homeward acme account 1",
            Self::ServerKey => "homeward server key 1",
            Self::Link => "homeward link 1",
        }
    }
}
