//! A browser as far as a login needs one: cookies by host, redirects one at a time, forms.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, bail};
use cookie::Cookie;
use reqwest::redirect::Policy;
use reqwest::{Client, Method};
use url::Url;

/// More redirects than any login takes.
const MAX_HOPS: usize = 20;

/// A browser with cookies of its own.
#[derive(Debug)]
pub struct Browser {
    client: Client,
    cookies: HashMap<String, HashMap<String, String>>,
    /// Every address that it went to, with the status it got.
    pub hops: Vec<(String, u16)>,
}

/// What a request led to.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where it is.
    pub url: Url,
    /// HTTP status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: HashMap<String, String>,
    /// The body.
    pub body: String,
}

impl Default for Browser {
    fn default() -> Self {
        Self::new()
    }
}

impl Browser {
    /// Without any cookie. Every host name is this machine.
    pub fn new() -> Self {
        let client = Client::builder().redirect(Policy::none()).dns_resolver(std::sync::Arc::new(Loopback));
        // The builder fails for want of TLS only.
        let client = client.build().unwrap_or_default();
        Self { client, cookies: HashMap::new(), hops: Vec::new() }
    }

    /// Opens an address and follows redirects to a page.
    ///
    /// # Errors
    /// When something does not answer, or redirects go on and on.
    pub async fn open(&mut self, url: &str) -> anyhow::Result<Page> {
        let first = self.request(Method::GET, Url::parse(url)?, None).await?;
        self.follow(first).await
    }

    /// Opens an address and stays there, whatever it says.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn get(&mut self, url: &str) -> anyhow::Result<Page> {
        self.request(Method::GET, Url::parse(url)?, None).await
    }

    /// Sends a page's only form, its hidden fields filled in as they are and these besides, and follows redirects.
    ///
    /// # Errors
    /// When the page has no form, or something does not answer.
    pub async fn submit(&mut self, page: &Page, fields: &[(&str, &str)]) -> anyhow::Result<Page> {
        let answer = self.send(page, fields).await?;
        self.follow(answer).await
    }

    /// The same, without following redirects.
    ///
    /// # Errors
    /// As [`Browser::submit`].
    pub async fn send(&mut self, page: &Page, fields: &[(&str, &str)]) -> anyhow::Result<Page> {
        let (action, mut form) =
            form_of(&page.body).with_context(|| format!("no form on {}:\n{}", page.url, page.body))?;
        for (name, value) in fields {
            form.retain(|(known, _)| known != name);
            form.push(((*name).to_owned(), (*value).to_owned()));
        }
        self.request(Method::POST, page.url.join(&action)?, Some(&form)).await
    }

    /// Follows redirects from an answer.
    ///
    /// # Errors
    /// When something does not answer, or they go on and on.
    pub async fn follow(&mut self, mut page: Page) -> anyhow::Result<Page> {
        for _ in 0..MAX_HOPS {
            let Some(location) = page.headers.get("location").filter(|_| (300..400).contains(&page.status)) else {
                return Ok(page);
            };
            let next = page.url.join(location)?;
            page = self.request(Method::GET, next, None).await?;
        }
        bail!("too many redirects: {:#?}", self.hops)
    }

    /// One request, with cookies.
    ///
    /// # Errors
    /// When it is not answered.
    pub async fn request(
        &mut self,
        method: Method,
        url: Url,
        form: Option<&[(String, String)]>,
    ) -> anyhow::Result<Page> {
        let host = url.host_str().context("host")?.to_owned();
        let mut request = self.client.request(method, url.clone());
        if let Some(cookies) = self.cookie_header(&host) {
            request = request.header("cookie", cookies);
        }
        if let Some(form) = form {
            request = request.form(form);
        }
        let response = request.send().await.with_context(|| url.to_string())?;
        let status = response.status().as_u16();
        for header in response.headers().get_all("set-cookie") {
            let cookie = Cookie::parse(header.to_str()?.to_owned())?;
            let jar = self.cookies.entry(host.clone()).or_default();
            if cookie.max_age().is_some_and(|age| age.is_zero()) || cookie.value().is_empty() {
                jar.remove(cookie.name());
            } else {
                jar.insert(cookie.name().to_owned(), cookie.value().to_owned());
            }
        }
        let headers = response.headers().iter();
        let headers =
            headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        let headers = headers.collect();
        self.hops.push((url.to_string(), status));
        Ok(Page { url, status, headers, body: response.text().await? })
    }

    /// The values of a host's cookies.
    pub fn cookies_of(&self, host: &str) -> impl Iterator<Item = String> {
        self.cookies.get(host).into_iter().flat_map(|jar| jar.values().cloned())
    }

    /// Sets a cookie.
    pub fn set_cookie(&mut self, host: &str, name: &str, value: &str) {
        self.cookies.entry(host.to_owned()).or_default().insert(name.to_owned(), value.to_owned());
    }

    /// The Cookie header that a host would be sent; nothing if it has set none.
    pub fn cookie_header(&self, host: &str) -> Option<String> {
        let jar = self.cookies.get(host).filter(|jar| !jar.is_empty())?;
        let pairs: Vec<String> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Some(pairs.join("; "))
    }

    /// Forgets a host's cookies.
    pub fn forget_host(&mut self, host: &str) {
        self.cookies.remove(host);
    }

    /// Forgets everything.
    pub fn forget(&mut self) {
        self.cookies.clear();
    }
}

/// Address and fields of the first form that is sent by POST.
fn form_of(body: &str) -> Option<(String, Vec<(String, String)>)> {
    let form = body
        .split("<form")
        .skip(1)
        .find(|form| form.split('>').next().is_some_and(|tag| tag.to_lowercase().contains("post")))?;
    let form = form.split("</form>").next()?;
    let action = attribute(form.split('>').next()?, "action").unwrap_or_default();
    let inputs = form.split('<').filter(|tag| tag.starts_with("input") || tag.starts_with("button"));
    let hidden = inputs.filter(|tag| attribute(tag, "type").as_deref() == Some("hidden"));
    let fields = hidden.filter_map(|tag| Some((attribute(tag, "name")?, attribute(tag, "value").unwrap_or_default())));
    Some((action, fields.collect()))
}

/// An attribute's value, with the entities that templates write undone.
pub fn attribute(tag: &str, name: &str) -> Option<String> {
    let tag = tag.split('>').next()?;
    let value = tag.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?;
    let value = value.replace("&#38;", "&").replace("&#x2F;", "/").replace("&#34;", "\"").replace("&#39;", "'");
    Some(value.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
}

/// Every name is this machine: `*.localhost` needs no resolver's help.
#[derive(Debug)]
struct Loopback;

impl reqwest::dns::Resolve for Loopback {
    fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        Box::pin(async move { Ok(Box::new(std::iter::once(address)) as reqwest::dns::Addrs) })
    }
}
