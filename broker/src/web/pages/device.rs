//! The pages of somebody who connects a device.

use askama::Template;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::CONTENT_SECURITY_POLICY;

use crate::web::pages::render;
use crate::web::stylesheet;

/// Where the code of a device is typed.
#[derive(Template)]
#[template(path = "device.html")]
pub struct DevicePage {
    /// Where the form goes.
    pub action: &'static str,
    /// What only this browser's form says.
    pub form: String,
    /// What is in the field already.
    pub user_code: String,
    /// What was wrong with the code that was sent.
    pub complaint: Option<&'static str>,
}

impl IntoResponse for DevicePage {
    fn into_response(self) -> Response {
        // Browsers hold redirects after a form against `form-action`, and only the code says which home's users the
        // application accepts: any host may be it. Nothing on the page is anybody else's.
        const POLICY: HeaderValue = HeaderValue::from_static(
            "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self' https: http://localhost:* \
             http://127.0.0.1:*; frame-ancestors 'none'; base-uri 'none'",
        );
        let mut response = render(&self);
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, POLICY);
        response
    }
}

/// What became of it.
#[derive(Template)]
#[template(path = "device_end.html")]
pub struct DeviceEndPage {
    /// A heading.
    pub title: &'static str,
    /// What to do now.
    pub advice: &'static str,
}

impl IntoResponse for DeviceEndPage {
    fn into_response(self) -> Response {
        render(&self)
    }
}
