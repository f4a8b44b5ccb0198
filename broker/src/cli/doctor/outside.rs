//! The ways of a browser and of an agent to the broker: name, port, certificate, and whatever stands in between.

use std::collections::BTreeSet;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use homeward_certs::identity::{PeerIdentity, TrustDomain};
use homeward_certs::public::Validity;
use homeward_certs::tls::unverified_config_for_bundle_statements;
use http::header::{DATE, HOST, SET_COOKIE, STRICT_TRANSPORT_SECURITY};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::Url;

use crate::cli::doctor::PATIENCE;
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::inside::Inside;
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::outbound;
use crate::tls::ends_soon;

/// Largest answer, in bytes.
const LIMIT: usize = 256 * 1024;

/// How far clocks may be apart, in seconds.
const SKEW: i64 = 60;

pub(super) async fn findings(config: &Config, inside: &Inside, now: Timestamp) -> Vec<Finding> {
    let mut findings = browsers(config, inside, now).await;
    findings.extend(agents(inside).await);
    findings
}

async fn browsers(config: &Config, inside: &Inside, now: Timestamp) -> Vec<Finding> {
    let public = match Way::open(config, &inside.public_url).await {
        Ok(public) => public,
        Err(finding) => return vec![finding],
    };
    let mut findings = vec![Finding::ok("name", format!("{} is {}", public.host(), public.address.ip()))];
    findings.extend(public.certificate(now));
    match public.get("/.well-known/openid-configuration").await {
        Err(error) => findings.push(Finding::error("public_url", error, NOT_HERE)),
        Ok(answer) => {
            findings.push(of_discovery(&answer, &inside.public_url));
            findings.extend(of_headers(&answer, public.is_https(), now));
            findings.push(of_keys(public.get("/jwks").await, &inside.key_ids));
            findings.push(of_cookies(public.get("/device").await));
            findings.push(of_readiness(public.get("/readyz").await));
        }
    }
    findings
}

const NOT_HERE: &str = "let the proxy at public_url pass every path on to [listen] http of this broker (docs/tls.md)";

fn of_discovery(answer: &Response<String>, public_url: &str) -> Finding {
    let issuer =
        serde_json::from_str::<Value>(answer.body()).ok().and_then(|said| said["issuer"].as_str().map(str::to_owned));
    match issuer {
        Some(issuer) if issuer == public_url => Finding::ok("public_url", format!("{public_url} leads to a broker")),
        Some(issuer) => Finding::error(
            "public_url",
            format!(
                "at {public_url} is a broker whose public_url is {issuer}: applications compare them to the letter"
            ),
            "name the address that people use as public_url, or let it lead to this broker",
        ),
        None => {
            let sentence = format!("something else answers at {public_url}, with status {}", answer.status());
            Finding::error("public_url", sentence, NOT_HERE)
        }
    }
}

fn of_headers(answer: &Response<String>, https: bool, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| OffsetDateTime::parse(&date.replace("GMT", "+0000"), &Rfc2822).ok());
    let off = date.map_or(0, |date| (date.unix_timestamp() - now.as_secs()).abs());
    if off > SKEW {
        let sentence = format!("the clocks of this machine and of what answers at public_url are {off} seconds apart");
        findings.push(Finding::warning("clock", sentence, "timedatectl set-ntp true, on both machines"));
    }
    if https && !answer.headers().contains_key(STRICT_TRANSPORT_SECURITY) {
        findings.push(Finding::warning(
            "proxy",
            "the header Strict-Transport-Security does not arrive: the proxy takes it away, or says that browsers come by http",
            "let the proxy set X-Forwarded-Proto to https (nginx: proxy_set_header X-Forwarded-Proto $scheme)",
        ));
    }
    findings
}

fn of_keys(answer: Result<Response<String>, String>, of_broker: &BTreeSet<String>) -> Finding {
    let said =
        answer.and_then(|answer| serde_json::from_str::<Value>(answer.body()).map_err(|error| error.to_string()));
    let keys = said.map(|said| {
        let keys = said["keys"].as_array().cloned().unwrap_or_default();
        keys.iter().filter_map(|key| key["kid"].as_str().map(str::to_owned)).collect::<BTreeSet<_>>()
    });
    match keys {
        Ok(keys) if keys == *of_broker => Finding::ok("keys", format!("the key set arrives, with {} keys", keys.len())),
        Ok(_) => Finding::error(
            "keys",
            "the key set at public_url is not this broker's: a cache keeps an old one, or another broker answers",
            "let public_url lead to the brokers of this store, without a cache that keeps /jwks for longer than it says",
        ),
        Err(error) => Finding::error("keys", format!("there is no key set at public_url: {error}"), NOT_HERE),
    }
}

fn of_cookies(answer: Result<Response<String>, String>) -> Finding {
    let cookies = answer.map(|answer| {
        let cookies = answer.headers().get_all(SET_COOKIE).iter().filter_map(|cookie| cookie.to_str().ok());
        cookies.map(str::to_owned).collect::<Vec<_>>()
    });
    let whole = |cookie: &String| {
        let has = |attribute: &str| cookie.split(';').any(|part| part.trim().eq_ignore_ascii_case(attribute));
        cookie.starts_with("__Host-homeward-") && has("Secure") && has("HttpOnly") && has("Path=/")
    };
    match cookies {
        Ok(cookies) if cookies.iter().any(whole) => Finding::ok("cookies", "cookies arrive as they were sent"),
        Ok(_) => Finding::error(
            "cookies",
            "the broker's cookies do not arrive as they were sent: browsers drop them, and no login ends",
            "let the proxy change no Set-Cookie (nginx: no proxy_cookie_path, proxy_cookie_domain or proxy_cookie_flags)",
        ),
        Err(error) => Finding::error("cookies", error, NOT_HERE),
    }
}

fn of_readiness(answer: Result<Response<String>, String>) -> Finding {
    match answer {
        Ok(answer) if answer.status() == 200 => Finding::ok("store", "the store answers, and takes commits"),
        Ok(answer) => {
            let sentence = format!("the broker is not ready: {}", answer.body().trim());
            Finding::error("store", sentence, "journalctl -u homeward-broker says why; see docs/troubleshooting.md")
        }
        Err(error) => Finding::error("store", error, NOT_HERE),
    }
}

/// A proxy that ends TLS at the agents' port would be who agents meet, and they believe none.
async fn agents(inside: &Inside) -> Vec<Finding> {
    let url = &inside.agent_url;
    let remedy = "let agent_url lead to [listen] grpc as it is: open the port, and let a balancer pass TCP on";
    let met = async {
        let trust_domain: TrustDomain = inside.trust_domain.parse().map_err(|_| anyhow!("no trust domain"))?;
        let tls = unverified_config_for_bundle_statements(trust_domain.clone(), Arc::new(Clock::system()))?;
        let url = Url::parse(url)?;
        let stream = shake_hands(&url, reach(&url).await?, tls).await?;
        let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).context("no certificate")?;
        match PeerIdentity::of_leaf(leaf, &trust_domain) {
            Ok(PeerIdentity::Broker) => Ok(()),
            _ => bail!("something that is no broker of {trust_domain} ends TLS there"),
        }
    };
    let met = tokio::time::timeout(PATIENCE, met).await.unwrap_or_else(|_| Err(anyhow!("no answer in time")));
    vec![match met {
        Ok(()) => Finding::ok("agent_url", format!("{url} leads to a broker of this federation")),
        Err(error) => Finding::error("agent_url", format!("agents cannot reach {url}: {error:#}"), remedy),
    }]
}

/// The way to public_url.
struct Way {
    url: Url,
    address: SocketAddr,
    tls: Option<ClientConfig>,
    leaf: Option<Vec<u8>>,
}

impl Way {
    async fn open(config: &Config, public_url: &str) -> Result<Self, Finding> {
        let about = |error: anyhow::Error| format!("browsers cannot reach {public_url}: {error:#}");
        let url =
            Url::parse(public_url).map_err(|error| Finding::error("name", error.to_string(), "mend public_url"))?;
        let resolved =
            tokio::time::timeout(PATIENCE, resolve(&url)).await.unwrap_or_else(|_| Err(anyhow!("no answer")));
        let host = url.host_str().unwrap_or_default().to_owned();
        let addresses = resolved.map_err(|error| {
            Finding::error("name", about(error), format!("an A or AAAA record for {host} in your name server"))
        })?;
        let reached =
            tokio::time::timeout(PATIENCE, reach(&url)).await.unwrap_or_else(|_| Err(anyhow!("no answer in time")));
        let stream = reached.map_err(|error| {
            let port = url.port_or_known_default().unwrap_or_default();
            Finding::error("port", about(error), format!("open port {port} of {host}, and start what listens there"))
        })?;
        let address =
            stream.peer_addr().ok().or(addresses.first().copied()).unwrap_or_else(|| ([0, 0, 0, 0], 0).into());
        if url.scheme() != "https" {
            return Ok(Self { url, address, tls: None, leaf: None });
        }
        let shaken = async {
            let tls = trusting(config)?;
            let stream = shake_hands(&url, stream, tls.clone()).await?;
            let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).context("no certificate")?;
            anyhow::Ok((tls, leaf.to_vec()))
        };
        let shaken = tokio::time::timeout(PATIENCE, shaken).await.unwrap_or_else(|_| Err(anyhow!("no answer in time")));
        let remedy = "renew or mend the certificate (the chain with its intermediates, for this name): docs/tls.md; a CA of \
                      your own is believed by [outbound] ca_file";
        let (tls, leaf) = shaken.map_err(|error| Finding::error("certificate", about(error), remedy))?;
        Ok(Self { url, address, tls: Some(tls), leaf: Some(leaf) })
    }

    fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    fn is_https(&self) -> bool {
        self.tls.is_some()
    }

    fn certificate(&self, now: Timestamp) -> Option<Finding> {
        let validity = Validity::of(self.leaf.as_ref()?)?;
        let [from, until] = [validity.not_before, validity.not_after].map(Timestamp::from_secs);
        Some(if ends_soon(from, until, now) {
            let sentence = format!("the certificate of public_url ends at {until}");
            Finding::warning("certificate", sentence, "renew it; with [tls.acme]: homeward-broker tls show, tls renew")
        } else {
            Finding::ok("certificate", format!("the certificate of public_url is good until {until}"))
        })
    }

    /// What is at a path; an error is a sentence.
    async fn get(&self, path: &str) -> Result<Response<String>, String> {
        let got = async {
            let stream = TcpStream::connect(self.address).await?;
            match &self.tls {
                Some(tls) => self.ask(shake_hands(&self.url, stream, tls.clone()).await?, path).await,
                None => self.ask(stream, path).await,
            }
        };
        let got = tokio::time::timeout(PATIENCE, got).await.unwrap_or_else(|_| Err(anyhow!("no answer in time")));
        got.map_err(|error| format!("{path} cannot be fetched: {error:#}"))
    }

    async fn ask<S>(&self, stream: S, path: &str) -> anyhow::Result<Response<String>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let host = &self.url[url::Position::BeforeHost..url::Position::AfterPort];
        let request = Request::get(path).header(HOST, host).body(Empty::<Bytes>::new())?;
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body =
            Limited::new(body, LIMIT).collect().await.map_err(|error: Box<dyn Error + Send + Sync>| anyhow!(error))?;
        Ok(Response::from_parts(head, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    }
}

/// As browsers do: by the CAs of this machine.
fn trusting(config: &Config) -> anyhow::Result<ClientConfig> {
    let roots = outbound::roots("outbound.ca_file", config.outbound_ca_file.as_deref())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

async fn resolve(url: &Url) -> anyhow::Result<Vec<SocketAddr>> {
    let (host, port) = (url.host_str().context("no host")?, url.port_or_known_default().context("no port")?);
    let found: Vec<_> = tokio::net::lookup_host((host.trim_matches(['[', ']']), port)).await?.collect();
    if found.is_empty() { bail!("the name has no address") } else { Ok(found) }
}

async fn reach(url: &Url) -> anyhow::Result<TcpStream> {
    Ok(TcpStream::connect(resolve(url).await?.as_slice()).await?)
}

async fn shake_hands(url: &Url, stream: TcpStream, tls: ClientConfig) -> anyhow::Result<TlsStream<TcpStream>> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    Ok(TlsConnector::from(Arc::new(tls)).connect(ServerName::try_from(host)?, stream).await?)
}
