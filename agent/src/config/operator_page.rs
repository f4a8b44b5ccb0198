//! The section `[operator_page]`: where the operator looks at this agent with a browser.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde::Deserialize;
use url::Host;

use super::error::ConfigError;

/// Where the page is, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorPageConfig {
    /// Plain HTTP, on this machine.
    pub listen: SocketAddr,
    /// Names under which a reverse proxy passes it on, in lower case; beside those of this machine.
    pub hosts: BTreeSet<String>,
}

/// As it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOperatorPage {
    listen: SocketAddr,
    #[serde(default)]
    hosts: Vec<String>,
}

impl RawOperatorPage {
    /// The agent asks nobody who he is: whoever reaches the page may read it. So the network must not reach it, but by
    /// somebody who asks.
    pub(super) fn check(self) -> Result<OperatorPageConfig, ConfigError> {
        if !self.listen.ip().to_canonical().is_loopback() {
            return Err(ConfigError::OperatorPageListen(self.listen));
        }
        let hosts = self.hosts.into_iter().map(|name| host(&name).ok_or(ConfigError::OperatorPageHost(name)));
        Ok(OperatorPageConfig { listen: self.listen, hosts: hosts.collect::<Result<_, _>>()? })
    }
}

/// A name as browsers write it; nothing that stands for many, and no port.
fn host(name: &str) -> Option<String> {
    let parsed = Host::parse(name).ok()?.to_string();
    (parsed.eq_ignore_ascii_case(name) && !parsed.contains('*')).then_some(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<OperatorPageConfig, ConfigError> {
        toml::from_str::<RawOperatorPage>(text).unwrap().check()
    }

    #[test]
    fn the_page_is_for_this_machine_only() {
        for good in ["127.0.0.1:9446", "127.8.8.8:0", "[::1]:9446"] {
            assert_eq!(check(&format!("listen = '{good}'")).unwrap().listen.to_string(), good);
        }
        for bad in ["0.0.0.0:9446", "[::]:9446", "192.0.2.7:9446", "[::ffff:192.0.2.7]:9446"] {
            let error = check(&format!("listen = '{bad}'")).unwrap_err();
            assert!(matches!(error, ConfigError::OperatorPageListen(_)) && error.to_string().contains(bad), "{error}");
        }
    }

    #[test]
    fn a_host_is_one_name_without_port() {
        let hosts = |names: &str| check(&format!("listen = '127.0.0.1:0'\nhosts = [{names}]"));
        let good = hosts("'Beta.Example', 'beta.example', '192.0.2.7', '[2001:db8::7]'").unwrap().hosts;
        assert_eq!(good.into_iter().collect::<Vec<_>>(), ["192.0.2.7", "[2001:db8::7]", "beta.example"]);
        for bad in ["", "*", "*.example", "beta.example:8443", "https://beta.example", "beta.example/x", "2001:db8::7"]
        {
            assert!(matches!(hosts(&format!("'{bad}'")), Err(ConfigError::OperatorPageHost(_))), "{bad}");
        }
    }
}
