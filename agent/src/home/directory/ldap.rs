//! Home method `ldap`: a directory server judges name and password, by a bind with the user's own entry (RFC 4513 5.1).
//!
//! The entry's name is made from a template, or found by a search; whatever the user typed is escaped for the one (RFC
//! 4514 2.4) or the other (RFC 4515 3), so it can be no other entry and no other filter. Every question has a connection of
//! its own: few ask, and a connection that somebody was bound to is used for nobody else. An empty password is refused
//! here: a server takes such a bind for an anonymous one, and lets it succeed (RFC 4513 5.1.2).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use homeward_proto::v1::VerifiedIdentity;
use ldap3::{
    Ldap, LdapConnAsync, LdapConnSettings, LdapError, LdapResult, Scope, SearchEntry, SearchOptions, dn_escape,
    ldap_escape,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;
use tokio::task::JoinHandle;

use super::{Account, DirectoryError, Verdict};
use crate::config::home::{LdapAttributes, LdapConfig};
use crate::home::decision::Note;
use crate::home::{PortalError, TypedCredentials, vouching};
use crate::secret_file::{self, SecretFileError};

/// For the connection and for each operation.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Attribute whose value is bytes and no text: Active Directory's identifier of an entry.
const OBJECT_GUID: &str = "objectGUID";
/// Result codes of a bind (RFC 4511 4.1.9, Appendix A).
mod code {
    pub(super) const CONSTRAINT_VIOLATION: u32 = 19;
    pub(super) const NO_SUCH_OBJECT: u32 = 32;
    pub(super) const INVALID_DN_SYNTAX: u32 = 34;
    pub(super) const INAPPROPRIATE_AUTHENTICATION: u32 = 48;
    pub(super) const INVALID_CREDENTIALS: u32 = 49;
    pub(super) const UNWILLING_TO_PERFORM: u32 = 53;
}

/// The users of a directory server.
#[derive(Debug)]
pub(crate) struct LdapUsers {
    config: LdapConfig,
    tls: Option<Arc<ClientConfig>>,
}

/// Why the directory says nothing that counts.
#[derive(Debug, Error)]
pub(crate) enum LdapFailure {
    /// No connection, no TLS, no answer, or a refusal of what is no password.
    #[error("the directory server: {0}")]
    Server(#[from] LdapError),
    /// A file of the configuration.
    #[error("cannot read {path}: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The password.
    #[error(transparent)]
    Password(#[from] SecretFileError),
    /// Not certificates.
    #[error("{path} has no PEM certificates", path = .0.display())]
    NoCertificates(PathBuf),
    /// The search fits several.
    #[error("the directory has several entries for one user: make [home.ldap.search] filter narrower")]
    Ambiguous,
    /// What is said of the user is not enough.
    #[error(transparent)]
    Incomplete(#[from] Box<PortalError>),
}

/// A connection, which ends with this.
struct Session {
    ldap: Ldap,
    driver: JoinHandle<Result<(), LdapError>>,
}

impl LdapUsers {
    /// As the configuration says.
    pub(super) fn new(config: LdapConfig) -> Result<Self, LdapFailure> {
        let tls = config.ca_file.as_deref().map(trusting).transpose()?;
        Ok(Self { config, tls })
    }

    /// Whether the password is this user's.
    pub(super) async fn judge(&self, typed: &TypedCredentials) -> Result<Verdict, PortalError> {
        if typed.username.trim().is_empty() || typed.password.expose_secret().is_empty() {
            return Ok(Verdict::Refused(Note::Wrong));
        }
        match self.sign_in(typed).await {
            Ok(verdict) => Ok(verdict),
            Err(LdapFailure::Incomplete(error)) => Err(*error),
            Err(error) => {
                tracing::error!(%error, "the directory server cannot judge a password");
                Ok(Verdict::Refused(Note::ApplicationDown))
            }
        }
    }

    /// Whether accounts can be asked about. Only a search can tell: where entries are bound to by name, nothing is known.
    pub(super) fn knows_accounts(&self) -> bool {
        self.config.search.is_some()
    }

    /// What became of users, by one connection.
    pub(super) async fn accounts(&self, home_user_ids: &[&str]) -> Result<Vec<Account>, DirectoryError> {
        let asked = async {
            let mut session = self.open().await?;
            let mut accounts = Vec::with_capacity(home_user_ids.len());
            for home_user_id in home_user_ids {
                accounts.push(self.standing(&mut session, home_user_id).await?);
            }
            Ok(accounts)
        };
        asked.await.map_err(|error: LdapFailure| DirectoryError::Unavailable(error.to_string()))
    }

    /// What would be said of a user.
    pub(super) async fn look_up(&self, username: &str) -> Result<Option<VerifiedIdentity>, DirectoryError> {
        if self.config.search.is_none() {
            return Err(DirectoryError::Unsupported);
        }
        let found = async {
            let mut session = self.open().await?;
            let Some(dn) = self.dn(&mut session, username).await? else { return Ok(None) };
            self.identity(&mut session, &dn, username).await
        };
        found.await.map_err(|error: LdapFailure| DirectoryError::Unavailable(error.to_string()))
    }

    /// Whether the server can be asked.
    pub(super) async fn check(&self) -> Result<(), DirectoryError> {
        let opened = self.open().await.map(|_| ());
        opened.map_err(|error| DirectoryError::Unavailable(error.to_string()))
    }

    async fn sign_in(&self, typed: &TypedCredentials) -> Result<Verdict, LdapFailure> {
        let mut session = self.open().await?;
        let Some(dn) = self.dn(&mut session, &typed.username).await? else { return Ok(Verdict::Refused(Note::Wrong)) };
        let bound = session.bind(&dn, &typed.password).await?;
        if let Some(note) = refusal(&bound) {
            return Ok(Verdict::Refused(note));
        }
        bound.success()?;
        // The user may not be allowed to read what the agent is.
        self.bind_as_agent(&mut session).await?;
        if self.is_disabled(&mut session, &dn).await? {
            return Ok(Verdict::Refused(Note::Disabled));
        }
        let identity = self.identity(&mut session, &dn, &typed.username).await?;
        // Bound to, and not to be seen: nobody can be vouched for.
        let incomplete = || Box::new(PortalError::IdentityIncomplete("entry in the directory"));
        Ok(Verdict::Ok(Box::new(identity.ok_or_else(incomplete)?)))
    }

    async fn standing(&self, session: &mut Session, home_user_id: &str) -> Result<Account, LdapFailure> {
        let Some(search) = &self.config.search else { return Ok(Account::Unknown) };
        let attribute = &self.config.attributes.home_user_id;
        let filter = format!("({attribute}={})", id_in_filter(attribute, home_user_id));
        let entries = session.search(&search.base, Scope::Subtree, &filter, &["1.1"]).await?;
        let Some(entry) = entries.first() else { return Ok(Account::Removed) };
        let disabled = self.is_disabled(session, &entry.dn).await?;
        Ok(if disabled { Account::Disabled } else { Account::Active })
    }

    /// A connection, bound as the agent if it has a name there.
    async fn open(&self) -> Result<Session, LdapFailure> {
        let mut settings = LdapConnSettings::new().set_conn_timeout(TIMEOUT).set_starttls(self.config.starttls);
        if let Some(tls) = &self.tls {
            settings = settings.set_config(tls.clone());
        }
        let (connection, ldap) = LdapConnAsync::from_url_with_settings(settings, &self.config.url).await?;
        let mut session = Session { ldap, driver: tokio::spawn(connection.drive()) };
        self.bind_as_agent(&mut session).await?;
        Ok(session)
    }

    async fn bind_as_agent(&self, session: &mut Session) -> Result<(), LdapFailure> {
        let search = self.config.search.as_ref();
        let (name, file) = match search.map(|search| (&search.bind_dn, &search.bind_password_file)) {
            Some((Some(name), Some(file))) => (name, file),
            // Anonymous; after a user's bind that has to be said (RFC 4513 5.1.1).
            Some(_) => {
                session.bind("", &SecretString::default()).await?.success()?;
                return Ok(());
            }
            None => return Ok(()),
        };
        session.bind(name, &read_password(file)?).await?.success()?;
        Ok(())
    }

    /// The name of a user's entry.
    async fn dn(&self, session: &mut Session, username: &str) -> Result<Option<String>, LdapFailure> {
        let username = username.trim();
        if let Some(template) = &self.config.user_dn {
            return Ok(Some(template.replace("{username}", &dn_escape(username))));
        }
        let Some(search) = &self.config.search else { return Ok(None) };
        let filter = search.filter.replace("{username}", &ldap_escape(username));
        let entries = session.search(&search.base, Scope::Subtree, &filter, &["1.1"]).await?;
        let mut entries = entries.into_iter();
        match (entries.next(), entries.next()) {
            (Some(_), Some(_)) => Err(LdapFailure::Ambiguous),
            (entry, _) => Ok(entry.map(|entry| entry.dn)),
        }
    }

    async fn is_disabled(&self, session: &mut Session, dn: &str) -> Result<bool, LdapFailure> {
        let Some(filter) = &self.config.disabled_when else { return Ok(false) };
        Ok(!session.search(dn, Scope::Base, filter, &["1.1"]).await?.is_empty())
    }

    async fn identity(
        &self,
        session: &mut Session,
        dn: &str,
        username: &str,
    ) -> Result<Option<VerifiedIdentity>, LdapFailure> {
        let LdapAttributes { home_user_id, username: login, name, given_name, family_name, email } =
            &self.config.attributes;
        let wanted = [home_user_id, login, name, given_name, family_name, email].map(String::as_str);
        let entries = session.search(dn, Scope::Base, "(objectClass=*)", &wanted).await?;
        let Some(entry) = entries.first() else { return Ok(None) };
        let text = |attribute: &str| values(entry, attribute).into_iter().next().unwrap_or_default();
        let mut groups = Vec::new();
        if let Some(rule) = &self.config.groups {
            let filter = rule.filter.replace("{dn}", &ldap_escape(dn));
            let filter = filter.replace("{username}", &ldap_escape(username));
            let found = session.search(&rule.base, Scope::Subtree, &filter, &[rule.attribute.as_str()]).await?;
            groups = found.iter().flat_map(|group| values(group, &rule.attribute)).collect();
        }
        let said = VerifiedIdentity {
            home_user_id: text(home_user_id),
            username: text(login),
            name: text(name),
            given_name: text(given_name),
            family_name: text(family_name),
            email: text(email),
            email_verified: self.config.email_verified,
            groups,
            ..Default::default()
        };
        Ok(Some(vouching::checked(said).map_err(Box::new)?))
    }
}

impl Session {
    async fn bind(&mut self, dn: &str, password: &SecretString) -> Result<LdapResult, LdapError> {
        self.ldap.with_timeout(TIMEOUT).simple_bind(dn, password.expose_secret()).await
    }

    async fn search(
        &mut self,
        base: &str,
        scope: Scope,
        filter: &str,
        attributes: &[&str],
    ) -> Result<Vec<SearchEntry>, LdapError> {
        let limits = SearchOptions::new().timelimit(5);
        let search = self.ldap.with_timeout(TIMEOUT).with_search_options(limits);
        let found = search.search(base, scope, filter, attributes.to_vec()).await?;
        // No such entry is an answer too.
        if found.1.rc == code::NO_SUCH_OBJECT {
            return Ok(Vec::new());
        }
        let (entries, _) = found.success()?;
        // References to other servers are not followed: nobody has said that those may see a password.
        let entries = entries.into_iter().filter(|entry| !entry.is_ref() && !entry.is_intermediate());
        Ok(entries.map(SearchEntry::construct).collect())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session(…)")
    }
}

/// What the refusal of a bind means to the user; `None` if it is none, or nothing that a user can mend.
fn refusal(bound: &LdapResult) -> Option<Note> {
    // Active Directory says why behind the code, and only to those who know the password (MS-ADTS 5.1.1.1.3).
    let because = |why: &str| bound.text.contains(&format!("data {why},"));
    match bound.rc {
        code::INVALID_CREDENTIALS if because("775") => Some(Note::Locked),
        code::INVALID_CREDENTIALS if because("533") || because("701") => Some(Note::Disabled),
        code::INVALID_CREDENTIALS
        | code::NO_SUCH_OBJECT
        | code::INVALID_DN_SYNTAX
        | code::INAPPROPRIATE_AUTHENTICATION => Some(Note::Wrong),
        // Too many tries (389 Directory Server), and an inactive account (there and in OpenLDAP).
        code::CONSTRAINT_VIOLATION => Some(Note::Locked),
        code::UNWILLING_TO_PERFORM => Some(Note::Disabled),
        _ => None,
    }
}

/// The values of an attribute, whatever case the server writes its name in (RFC 4512 2.5).
fn values(entry: &SearchEntry, attribute: &str) -> Vec<String> {
    let same = |name: &String| name.eq_ignore_ascii_case(attribute);
    let texts = entry.attrs.iter().filter(|(name, _)| same(name)).flat_map(|(_, values)| values);
    if attribute.eq_ignore_ascii_case(OBJECT_GUID) {
        // Bytes, some of which happen to be text.
        let bytes = entry.bin_attrs.iter().filter(|(name, _)| same(name)).flat_map(|(_, values)| values);
        let bytes = bytes.map(Vec::as_slice).chain(texts.map(String::as_bytes));
        return bytes.map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    }
    texts.cloned().collect()
}

/// An identifier as a filter has it: bytes are escaped one by one (RFC 4515 3).
fn id_in_filter(attribute: &str, id: &str) -> String {
    if !attribute.eq_ignore_ascii_case(OBJECT_GUID) {
        return ldap_escape(id).into_owned();
    }
    let hex: Vec<char> = id.chars().filter(char::is_ascii_hexdigit).collect();
    hex.chunks(2).map(|pair| format!("\\{}", pair.iter().collect::<String>())).collect()
}

/// TLS that trusts these CAs and no others.
fn trusting(ca_file: &Path) -> Result<Arc<ClientConfig>, LdapFailure> {
    let pem = std::fs::read(ca_file).map_err(|source| LdapFailure::Unreadable { path: ca_file.to_owned(), source })?;
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let (added, _) = roots.add_parsable_certificates(certificates.unwrap_or_default());
    if added == 0 {
        return Err(LdapFailure::NoCertificates(ca_file.to_owned()));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| LdapFailure::Server(error.into()))?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// Read at each use: the operator may change it.
fn read_password(path: &Path) -> Result<SecretString, LdapFailure> {
    Ok(secret_file::read_all(path)?.trim_end_matches(['\r', '\n']).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(rc: u32, text: &str) -> LdapResult {
        LdapResult { rc, matched: String::new(), text: text.to_owned(), refs: Vec::new(), ctrls: Vec::new() }
    }

    #[test]
    fn every_refusal_has_its_meaning() {
        let windows = |data: &str| format!("80090308: LdapErr: DSID-0C090569, comment: x, data {data}, v4563");
        for (rc, text, note) in [
            (0, String::new(), None),
            (49, String::new(), Some(Note::Wrong)),
            (49, windows("52e"), Some(Note::Wrong)),
            (49, windows("775"), Some(Note::Locked)),
            (49, windows("533"), Some(Note::Disabled)),
            (32, String::new(), Some(Note::Wrong)),
            (19, String::new(), Some(Note::Locked)),
            (53, String::new(), Some(Note::Disabled)),
            (52, String::new(), None),
        ] {
            assert_eq!(refusal(&result(rc, &text)), note, "{rc} {text}");
        }
    }

    #[tokio::test]
    async fn an_empty_password_is_refused_before_anybody_is_asked() {
        let text = "url = 'ldap://127.0.0.1:1'\nuser_dn = 'uid={username}'";
        let users = LdapUsers::new(toml::from_str(text).unwrap()).unwrap();
        let judge = async |username: &str, password: &str| {
            users.judge(&TypedCredentials { username: username.to_owned(), password: password.into() }).await.unwrap()
        };
        assert!(matches!(judge("alice", "").await, Verdict::Refused(Note::Wrong)));
        assert!(matches!(judge(" ", "x").await, Verdict::Refused(Note::Wrong)));
        assert!(matches!(judge("alice", "x").await, Verdict::Refused(Note::ApplicationDown)), "nobody is there");
        assert!(users.accounts(&["x"]).await.is_err());
    }

    #[test]
    fn what_a_user_types_is_a_value_and_nothing_else() {
        let template = "uid={username},ou=people";
        let dn = |username: &str| template.replace("{username}", &dn_escape(username.to_owned()));
        assert_eq!(dn("alice,ou=admins"), "uid=alice\\2cou\\3dadmins,ou=people");
        assert_eq!(ldap_escape("*)(uid=*".to_owned()), "\\2a\\29\\28uid=\\2a");
        assert_eq!(id_in_filter("objectGUID", "0aff"), "\\0a\\ff");
        assert_eq!(id_in_filter("entryUUID", "a*"), "a\\2a");
    }

    #[test]
    fn bytes_are_read_as_what_they_are() {
        let entry = SearchEntry {
            dn: String::new(),
            attrs: [("MAIL".to_owned(), vec!["a@alpha.example".to_owned()])].into(),
            bin_attrs: [("objectGUID".to_owned(), vec![vec![0xff, 0x0a]])].into(),
        };
        assert_eq!(
            (values(&entry, "mail"), values(&entry, "objectguid")),
            (vec!["a@alpha.example".to_owned()], vec!["ff0a".to_owned()])
        );
    }
}
