//! GET and POST /device: where the user of a device types the code that it shows (RFC 8628 3.3).
//!
//! A link may fill the code in; only the user sends it. Then he logs in as for any relying party, and is always asked
//! before the device gets anything: whoever lured him here with a code of his own has to get past that question (5.4).
//!
//! The device's own side is `authorization.rs`; how often codes may be typed, `limits.rs`.

pub(super) mod authorization;
mod limits;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Extension, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use tracing::info;

use crate::clock::Timestamp;
use crate::grants::{UserCode, WaitingDevice};
use crate::login::{AuthorizationRequest, LoginError, Reply};
use crate::oidc::authorization::Next;
use crate::oidc::error::BrowserError;
use crate::oidc::parameters::Parameters;
use crate::oidc::request::CallbackError;
use crate::oidc::{Provider, path};
use crate::secret::{OpaqueSecret, SecretHash};
use crate::web::{ClientAddress, CookieName, DeviceEndPage, DevicePage, Visitor, set_cookie};

pub(super) use limits::DeviceLimits;

/// What a user is told who typed a code that no device waits for.
const UNKNOWN: &str = "No device waits for this code. Compare it with the one on the device, or let it show a new one.";

/// The form.
pub(super) async fn get(
    State(provider): State<Arc<Provider>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, BrowserError> {
    let query = query.unwrap_or_default();
    let parameters = Parameters::parse(query.as_bytes()).map_err(|_| CallbackError::Parameters)?;
    // What is no code is not shown again, whatever it is.
    let code = parameters.get("user_code").ok().flatten().and_then(|text| text.parse::<UserCode>().ok());
    provider.device_form(&Visitor::of(&headers), code.as_ref(), None)
}

/// The code.
pub(super) async fn post(
    State(provider): State<Arc<Provider>>,
    Extension(address): Extension<ClientAddress>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, BrowserError> {
    let parameters = Parameters::of_form(&headers, &body).map_err(|_| CallbackError::Parameters)?;
    let visitor = Visitor::of(&headers);
    let browser = visitor.browser.as_deref().ok_or(LoginError::OtherBrowser)?;
    let field = |name| parameters.get(name).map_err(|_| CallbackError::Parameters);
    // S3: the cookie alone would also come with a form on a neighbouring host.
    let form = field("form")?.and_then(|form| form.parse::<SecretHash>().ok());
    if form != Some(form_of(browser)) {
        return Err(LoginError::OtherBrowser.into());
    }
    provider.device_limits.admit(address.0, browser).map_err(|_| BrowserError::TooManyCodes)?;
    let now = provider.clock.now();
    let code = field("user_code")?.and_then(|text| text.parse::<UserCode>().ok());
    let waiting = match &code {
        Some(code) => provider.devices.entered(code, now).await?,
        None => None,
    };
    match waiting {
        Some(device) => {
            let next = provider.begin_device_login(device, &visitor, now).await?;
            Ok(provider.send(next))
        }
        None => {
            info!("a code was entered that no device waits for");
            let form = provider.device_form(&visitor, code.as_ref(), Some(UNKNOWN))?;
            Ok((StatusCode::BAD_REQUEST, form).into_response())
        }
    }
}

/// The user let the device in.
pub(super) async fn connected() -> DeviceEndPage {
    DeviceEndPage {
        title: "Your device is connected",
        advice: "Go back to it: in a few seconds it goes on. You can close this page.",
    }
}

/// The user did not.
pub(super) async fn refused() -> DeviceEndPage {
    DeviceEndPage {
        title: "The device was not connected",
        advice: "It gets nothing of yours. You can close this page. To try again, let the device show a new code.",
    }
}

impl Provider {
    fn device_form(
        &self,
        visitor: &Visitor,
        code: Option<&UserCode>,
        complaint: Option<&'static str>,
    ) -> Result<Response, BrowserError> {
        let browser = match visitor.browser.clone() {
            Some(browser) => browser,
            None => OpaqueSecret::generate().map_err(LoginError::from)?.expose().to_owned(),
        };
        let page = DevicePage {
            action: path::DEVICE,
            form: form_of(&browser).as_str().to_owned(),
            user_code: code.map(UserCode::to_string).unwrap_or_default(),
            complaint,
        };
        let mut response = page.into_response();
        set_cookie(response.headers_mut(), CookieName::Browser, &browser, Some(self.login_lifetime));
        Ok(response)
    }

    async fn begin_device_login(
        &self,
        device: WaitingDevice,
        visitor: &Visitor,
        now: Timestamp,
    ) -> Result<Next, BrowserError> {
        let WaitingDevice { id, client_id, relying_party, scopes } = device;
        let snapshot = self.registry.snapshot();
        snapshot.client(client_id.as_str()).ok_or(LoginError::RelyingPartyGone)?;
        let request = AuthorizationRequest::plain((client_id, relying_party), Reply::Device { id }, scopes, now);
        self.begin(request, visitor, &snapshot, now).await
    }
}

/// What only a form that this browser was given can say.
fn form_of(browser: &str) -> SecretHash {
    SecretHash::of(&format!("device form {browser}"))
}
