//! Plain HTTP, for who types a name: everybody is sent on to the public address.

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use http::header::LOCATION;
use http::{HeaderValue, Method, StatusCode, Uri};

use crate::config::Issuer;
use crate::web::{Boundary, Problem};

/// Sends everybody to the same path at the public address, whatever a request calls this host.
pub fn redirect(issuer: &Issuer, boundary: Boundary) -> Router {
    let issuer = issuer.clone();
    let answer = async move |method: Method, uri: Uri| answer(&issuer, &method, &uri);
    boundary.over_plain_http().around(Router::new().fallback(answer))
}

fn answer(issuer: &Issuer, method: &Method, uri: &Uri) -> Response {
    // What was posted went over the wire in clear already: whoever wrote that is to hear of it.
    if *method != Method::GET && *method != Method::HEAD {
        return Problem::METHOD.into_response();
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    match HeaderValue::from_str(&issuer.address(path)) {
        Ok(there) => (StatusCode::PERMANENT_REDIRECT, [(LOCATION, there)]).into_response(),
        Err(_) => Problem::BAD_REQUEST.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_on_leads_to_the_public_address_only() {
        let issuer = Issuer::parse("https://login.example.org").unwrap();
        let there = |uri: &str| {
            let response = answer(&issuer, &Method::GET, &uri.parse().unwrap());
            response.headers()[LOCATION].to_str().unwrap().to_owned()
        };
        assert_eq!(there("/authorize?a=b"), "https://login.example.org/authorize?a=b");
        assert_eq!(there("http://evil.example/x"), "https://login.example.org/x");
        assert_eq!(there("//evil.example/x"), "https://login.example.org//evil.example/x");
        assert_eq!(answer(&issuer, &Method::POST, &"/token".parse().unwrap()).status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
