//! A town: a broker, a home with alice, and a relying party that accepts it; and alice, who logs in.

use serde_json::Value;
use world::browser::Page;
use world::federation::Instance;
use world::site::Account;
use world::{Browser, Federation, InstanceOptions};

pub(crate) const PASSWORD: &str = "wonderland-canary-4711";
pub(crate) const ALICE: Account =
    Account { username: "alice", password: PASSWORD, name: "Alice Archer", email: "alice@alpha.example" };

pub(crate) struct Town {
    pub(crate) federation: Federation,
    pub(crate) alpha: Instance,
    pub(crate) beta: Instance,
}

/// alpha is home by these methods, beta a relying party that accepts it.
pub(crate) async fn town(methods: &[&'static str]) -> Town {
    town_with(methods, "").await
}

/// The same with more in the broker's configuration.
pub(crate) async fn town_with(methods: &[&'static str], settings: &str) -> Town {
    settled(Federation::with_settings(settings).await.unwrap(), methods).await
}

/// The same in a federation that runs.
pub(crate) async fn settled(federation: Federation, methods: &[&'static str]) -> Town {
    let home = InstanceOptions { accounts: vec![ALICE], relying_party: false, methods: methods.to_vec() };
    let alpha = federation.instance("alpha", home).await.unwrap();
    let party = InstanceOptions { accounts: Vec::new(), relying_party: true, methods: Vec::new() };
    let beta = federation.instance("beta", party).await.unwrap();
    federation.allow("beta", "alpha", &["alpha.example"]).await.unwrap();
    federation.in_sync("beta").await.unwrap();
    Town { federation, alpha, beta }
}

impl Town {
    pub(crate) fn start(&self) -> String {
        self.beta.site.at("/sign-in-with-homeward")
    }

    pub(crate) fn is_at(&self, page: &Page, instance: &Instance) -> bool {
        page.url.port() == Some(instance.site.address().port())
    }

    /// Begins at beta, signs in at alpha's own login page, ends at beta.
    pub(crate) async fn sign_in(&self, browser: &mut Browser) -> Page {
        let page = browser.open(&self.start()).await.unwrap();
        assert!(self.is_at(&page, &self.alpha), "{} {}", page.url, page.body);
        browser.submit(&page, &[("username", "alice"), ("password", PASSWORD)]).await.unwrap()
    }
}

/// Whom the page shows as signed in.
pub(crate) fn user(page: &Page) -> Value {
    let shown = page.body.split("<pre id=\"user\">").nth(1).and_then(|rest| rest.split("</pre>").next());
    serde_json::from_str(shown.unwrap_or_else(|| panic!("nobody is signed in: {} {}", page.url, page.body))).unwrap()
}
