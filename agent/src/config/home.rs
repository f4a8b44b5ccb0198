//! The section `[home]`: how this home recognises its users, as it is written and as it comes to.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use url::Url;

use super::error::ConfigError;
use super::provider::{self, OidcClientConfig, SimpleSsoClientConfig};
use crate::recipe::Recipe;
use crate::recipe::home::Home;

/// How users are recognised.
#[derive(Debug, Clone)]
pub struct HomeConfig {
    /// Tried in this order; at least one, none twice.
    pub methods: Vec<HomeMethod>,
    /// How often it is asked whether those whom this home vouched for are still signed in, and may still log in; never if
    /// unset.
    pub watch_every: Option<Duration>,
    /// How many passwords of one name may be wrong, if that is limited beyond the usual.
    pub failures: Option<Failures>,
    /// The directory server, if the method is `ldap`.
    pub ldap: Option<LdapConfig>,
    /// The file of users, if the method is `file`.
    pub users_file: Option<PathBuf>,
    /// The application as OpenID provider.
    pub oidc: OidcClientConfig,
    /// The agent as client of a server of django-simple-sso, if the method is `simple_sso`.
    pub simple_sso: Option<SimpleSsoClientConfig>,
}

/// After so many wrong passwords of one name no more are tried until so many minutes after the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failures {
    /// How many.
    pub most: NonZeroU32,
    /// How long.
    pub minutes: NonZeroU32,
}

/// A way to recognise a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HomeMethod {
    /// Signed in at the application, or signing in on its own page.
    Session,
    /// With name and password on the agent's page, judged by the application.
    Password,
    /// With name and password on the agent's page, judged by a directory server.
    Ldap,
    /// With name and password on the agent's page, judged by a file of users.
    File,
    /// On the application's own page, as at an OpenID provider whose client the agent is.
    Oidc,
    /// On the application's own page, as at a server of django-simple-sso whose client the agent is.
    SimpleSso,
}

/// A directory server, and how its users are found there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LdapConfig {
    /// `ldaps://`, `ldapi://`, or `ldap://`.
    pub url: Url,
    /// Whether a connection to `ldap://` begins TLS before anything is said (RFC 4511 4.14).
    #[serde(default)]
    pub starttls: bool,
    /// CA certificates that the server's is checked against; those of the machine if unset.
    pub ca_file: Option<PathBuf>,
    /// The name of a user's entry, with `{username}`.
    pub user_dn: Option<String>,
    /// Or how the entry is searched.
    pub search: Option<LdapSearch>,
    /// Where a user's groups are.
    pub groups: Option<LdapGroups>,
    /// Which attributes say what.
    #[serde(default)]
    pub attributes: LdapAttributes,
    /// A filter that fits entries of users who may not log in.
    pub disabled_when: Option<String>,
    /// Whether the directory answers for its addresses: users cannot change their own.
    #[serde(default)]
    pub email_verified: bool,
}

/// How a user's entry is searched.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LdapSearch {
    /// Below which entry.
    pub base: String,
    /// Which it is, with `{username}`.
    pub filter: String,
    /// As whom; anonymously if unset.
    pub bind_dn: Option<String>,
    /// With which password.
    pub bind_password_file: Option<PathBuf>,
}

/// Where a user's groups are.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LdapGroups {
    /// Below which entry.
    pub base: String,
    /// Which they are, with `{dn}` or `{username}`.
    pub filter: String,
    /// What they are called.
    #[serde(default = "common_name")]
    pub attribute: String,
}

/// Which attributes of an entry say what: those of RFC 2798 and RFC 4530 unless told otherwise.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LdapAttributes {
    /// Never changes, and never belongs to anybody else.
    pub home_user_id: String,
    /// Login name.
    pub username: String,
    /// Full name.
    pub name: String,
    /// Given name.
    pub given_name: String,
    /// Family name.
    pub family_name: String,
    /// Address.
    pub email: String,
}

/// As it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHome {
    #[serde(default = "both_methods")]
    methods: Vec<HomeMethod>,
    /// Seconds.
    #[serde(default = "each_minute")]
    watch_every: u32,
    failures: Option<Failures>,
    #[serde(default)]
    oidc: OidcClientConfig,
    simple_sso: Option<SimpleSsoClientConfig>,
    ldap: Option<LdapConfig>,
    file: Option<RawFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    users_file: PathBuf,
}

impl RawHome {
    pub(super) fn check(self, recipe: &Recipe) -> Result<HomeConfig, ConfigError> {
        let twice = self.methods.iter().enumerate().any(|(at, method)| self.methods[..at].contains(method));
        if self.methods.is_empty() || twice {
            return Err(ConfigError::Methods);
        }
        // One user, one home_user_id: what a directory calls somebody, the application does not.
        if let Some(alone) = self.methods.iter().find(|method| method.stands_alone() && self.methods.len() > 1) {
            return Err(ConfigError::MethodAlone(*alone));
        }
        for method in &self.methods {
            method.check(recipe)?;
        }
        for (method, is_set) in [(HomeMethod::Ldap, self.ldap.is_some()), (HomeMethod::File, self.file.is_some())] {
            if self.methods.contains(&method) != is_set {
                return Err(ConfigError::MethodSection(method));
            }
        }
        if let Some(ldap) = &self.ldap {
            ldap.check().map_err(ConfigError::Ldap)?;
        }
        let users_file = self.file.map(|file| file.users_file);
        if users_file.as_ref().is_some_and(|path| path.is_relative()) {
            return Err(ConfigError::RelativePath("[home.file] users_file"));
        }
        provider::check(&self.methods, &self.oidc, self.simple_sso.as_ref(), recipe)?;
        let watch_every = (self.watch_every > 0).then(|| Duration::from_secs(self.watch_every.into()));
        let of_directory = self.ldap.as_ref().and_then(|_| below_usual_lockouts());
        Ok(HomeConfig {
            methods: self.methods,
            watch_every,
            failures: self.failures.or(of_directory),
            ldap: self.ldap,
            users_file,
            oidc: self.oidc,
            simple_sso: self.simple_sso,
        })
    }
}

impl HomeConfig {
    /// Whether the application knows the users.
    pub(crate) fn asks_the_application(&self) -> bool {
        self.ldap.is_none() && self.users_file.is_none()
    }
}

impl HomeMethod {
    /// Whether the user types name and password on the agent's own page.
    pub fn has_form(self) -> bool {
        match self {
            Self::Password | Self::Ldap | Self::File => true,
            Self::Session | Self::Oidc | Self::SimpleSso => false,
        }
    }

    /// Whether its users are others than the application's.
    fn stands_alone(self) -> bool {
        matches!(self, Self::Ldap | Self::File | Self::Oidc | Self::SimpleSso)
    }

    /// Refuses what the recipe does not know.
    fn check(self, recipe: &Recipe) -> Result<(), ConfigError> {
        let has = |knows: fn(&Home) -> bool| match &recipe.home {
            Some(home) if knows(home) => Ok(()),
            Some(_) => Err(ConfigError::MethodNotInRecipe { recipe: recipe.name.clone(), method: self }),
            None => Err(ConfigError::RoleNotInRecipe { recipe: recipe.name.clone(), role: "home" }),
        };
        match self {
            Self::Session => has(|home| home.login.is_some()),
            Self::Password => has(|home| home.password.is_some()),
            Self::Oidc => has(|home| home.oidc.is_some()),
            Self::SimpleSso => has(|home| home.simple_sso.is_some()),
            Self::Ldap | Self::File => Ok(()),
        }
    }
}

impl fmt::Display for HomeMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Session => "session",
            Self::Password => "password",
            Self::Ldap => "ldap",
            Self::File => "file",
            Self::Oidc => "oidc",
            Self::SimpleSso => "simple_sso",
        })
    }
}

impl LdapConfig {
    /// Refuses what would send passwords over the network for everybody to read, and templates that would fit anybody.
    fn check(&self) -> Result<(), &'static str> {
        match self.url.scheme() {
            "ldaps" | "ldapi" if self.starttls => return Err("starttls is for ldap:// only"),
            "ldaps" | "ldapi" => {}
            "ldap" if self.starttls || self.is_loopback() => {}
            "ldap" => return Err("passwords would travel in clear: set starttls = true, or take ldaps:// or ldapi://"),
            _ => return Err("url must begin with ldaps://, ldapi:// or ldap://"),
        }
        if self.url.host_str().is_none_or(str::is_empty) || !self.url.username().is_empty() {
            return Err("url needs a host (a percent-encoded path with ldapi://) and no user name");
        }
        let password_file = self.search.as_ref().and_then(|search| search.bind_password_file.as_ref());
        if self.ca_file.iter().chain(password_file).any(|path| path.is_relative()) {
            return Err("ca_file and search.bind_password_file must be absolute paths");
        }
        match (&self.user_dn, &self.search) {
            (Some(template), None) if is_template(template, &["{username}"]) => {}
            (Some(_), None) => return Err("user_dn must have {username} in it, and no other braces"),
            (None, Some(search)) => search.check()?,
            (Some(_), Some(_)) | (None, None) => return Err("set either user_dn or search"),
        }
        let groups = self.groups.as_ref();
        if groups.is_some_and(|groups| !is_filter(&groups.filter, &["{dn}", "{username}"])) {
            return Err("groups.filter must be a filter with {dn} or {username}, for example (member={dn})");
        }
        if self.disabled_when.as_ref().is_some_and(|filter| ldap3::parse_filter(filter).is_err()) {
            return Err("disabled_when must be a filter, for example (nsAccountLock=TRUE)");
        }
        Ok(())
    }

    fn is_loopback(&self) -> bool {
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
    }
}

impl LdapSearch {
    fn check(&self) -> Result<(), &'static str> {
        if !is_filter(&self.filter, &["{username}"]) {
            return Err("search.filter must be a filter with {username}, for example (uid={username})");
        }
        if self.bind_dn.is_some() != self.bind_password_file.is_some() {
            return Err("search.bind_dn and search.bind_password_file belong together");
        }
        Ok(())
    }
}

/// Has one of these, and nothing else in braces.
fn is_template(text: &str, places: &[&str]) -> bool {
    let filled = places.iter().fold(text.to_owned(), |text, place| text.replace(place, "x"));
    filled != text && !filled.contains(['{', '}'])
}

fn is_filter(text: &str, places: &[&str]) -> bool {
    let filled = places.iter().fold(text.to_owned(), |text, place| text.replace(place, "x"));
    is_template(text, places) && ldap3::parse_filter(filled).is_ok()
}

impl Default for LdapAttributes {
    fn default() -> Self {
        Self {
            home_user_id: "entryUUID".to_owned(),
            username: "uid".to_owned(),
            name: "cn".to_owned(),
            given_name: "givenName".to_owned(),
            family_name: "sn".to_owned(),
            email: "mail".to_owned(),
        }
    }
}

fn both_methods() -> Vec<HomeMethod> {
    vec![HomeMethod::Session, HomeMethod::Password]
}

fn each_minute() -> u32 {
    60
}

/// Five in half an hour lock an account of many directories, and not only here.
fn below_usual_lockouts() -> Option<Failures> {
    Some(Failures { most: NonZeroU32::new(4)?, minutes: NonZeroU32::new(30)? })
}

fn common_name() -> String {
    "cn".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(home: &str) -> Result<HomeConfig, ConfigError> {
        let recipe = Recipe::parse("name = 'a'\ntitle = 'A'\ndescription = ''").unwrap();
        toml::from_str::<RawHome>(home).unwrap().check(&recipe)
    }

    fn ldap(section: &str) -> Result<HomeConfig, ConfigError> {
        check(&format!("methods = ['ldap']\n[ldap]\n{section}"))
    }

    const BY_NAME: &str = "user_dn = 'uid={username},ou=people,dc=alpha'";

    #[test]
    fn a_home_without_an_application_needs_nothing_of_the_recipe() {
        let home = check("methods = ['file']\nfile = { users_file = '/etc/users.toml' }").unwrap();
        assert_eq!((home.methods[0], home.users_file.unwrap()), (HomeMethod::File, "/etc/users.toml".into()));
        for bad in ["methods = ['file', 'ldap']", "methods = ['session', 'file']"] {
            assert!(matches!(check(bad), Err(ConfigError::MethodAlone(_))), "{bad}");
        }
        for bad in ["methods = ['file']", "methods = ['ldap']"] {
            assert!(matches!(check(bad), Err(ConfigError::MethodSection(_))), "{bad}");
        }
        assert!(matches!(check("methods = ['session']"), Err(ConfigError::RoleNotInRecipe { .. })));
        assert!(matches!(check("methods = ['file', 'file']"), Err(ConfigError::Methods)));
        let relative = check("methods = ['file']\nfile = { users_file = 'users.toml' }");
        assert!(matches!(relative, Err(ConfigError::RelativePath(_))));
    }

    #[test]
    fn no_password_travels_in_clear() {
        for good in [
            "url = 'ldaps://directory.example'",
            "url = 'ldapi://%2frun%2fslapd%2fldapi'",
            "url = 'ldap://directory.example'\nstarttls = true",
            "url = 'ldap://127.0.0.1:389'",
            "url = 'ldap://[::1]'",
            "url = 'ldap://localhost'",
        ] {
            ldap(&format!("{good}\n{BY_NAME}")).unwrap();
        }
        for bad in [
            "url = 'ldap://directory.example'",
            "url = 'ldap://127.0.0.1.evil.example'",
            "url = 'ldaps://directory.example'\nstarttls = true",
            "url = 'http://127.0.0.1'",
            "url = 'ldaps://'",
        ] {
            assert!(matches!(ldap(&format!("{bad}\n{BY_NAME}")), Err(ConfigError::Ldap(_))), "{bad}");
        }
    }

    #[test]
    fn a_directory_locks_nobody_for_what_is_tried_here() {
        let failures = |home: HomeConfig| home.failures.map(|failures| (failures.most.get(), failures.minutes.get()));
        let text = format!("url = 'ldap://localhost'\n{BY_NAME}");
        assert_eq!(failures(ldap(&text).unwrap()), Some((4, 30)));
        let own = check(&format!("methods = ['ldap']\nfailures = {{ most = 2, minutes = 60 }}\n[ldap]\n{text}"));
        assert_eq!(failures(own.unwrap()), Some((2, 60)));
        assert_eq!(failures(check("methods = ['file']\nfile = { users_file = '/u' }").unwrap()), None);
    }

    #[test]
    fn a_template_fits_one_user() {
        let search = |filter: &str| format!("search = {{ base = 'dc=alpha', filter = '{filter}' }}");
        let home =
            ldap(&format!("url = 'ldap://[::1]'\n{}", search("(&(objectClass=person)(uid={username}))"))).unwrap();
        assert_eq!(home.ldap.unwrap().attributes.home_user_id, "entryUUID");
        for bad in [
            "user_dn = 'uid=alice,dc=alpha'".to_owned(),
            "user_dn = 'uid={username},ou={x}'".to_owned(),
            search("uid={username"),
            search("(uid=*)"),
            format!("{BY_NAME}\n{}", search("(uid={username})")),
            String::new(),
            format!("{BY_NAME}\ndisabled_when = '(x'"),
            format!("{BY_NAME}\ngroups = {{ base = 'dc=alpha', filter = '(member=*)' }}"),
            "search = { base = '', filter = '(uid={username})', bind_dn = 'cn=agent' }".to_owned(),
        ] {
            assert!(matches!(ldap(&format!("url = 'ldap://[::1]'\n{bad}")), Err(ConfigError::Ldap(_))), "{bad}");
        }
    }
}
