//! GET /upstream/{name}/setup: what to paste where, to make a home of an identity provider.
//!
//! The page looks nothing up. It is the same before the home is made, because its callback is needed for that, and after;
//! nobody learns from it which homes there are. A home that is called like a provider gets that provider's page.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use homeward_certs::identity::InstanceName;

use crate::oidc::parameters::Parameters;
use crate::oidc::{Provider, path};
use crate::upstream::{ANY, Preset};
use crate::web::{Problem, SetupLink, SetupPage};

/// Of the provider that the query names, or the home's name, or of any.
pub(super) async fn get(
    State(provider): State<Arc<Provider>>,
    Path(home): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let name: InstanceName = home.parse().map_err(|_| Problem::NOT_FOUND)?;
    let parameters = Parameters::parse(query.unwrap_or_default().as_bytes()).map_err(|_| Problem::BAD_REQUEST)?;
    let asked = parameters.get("provider").map_err(|_| Problem::BAD_REQUEST)?;
    let namesake = Preset::names().find(|preset| *preset == name.as_str());
    let wanted = asked.or(namesake).unwrap_or(ANY);
    let preset = Preset::named(wanted).ok_or(Problem::NOT_FOUND)?;
    let callback = provider.issuer.address(&path::UPSTREAM_CALLBACK.replace("{name}", name.as_str()));
    let filled = |text: &String| text.replace("{callback}", &callback).replace("{name}", name.as_str());
    let others = Preset::names().filter(|other| *other != wanted);
    let others = others.filter_map(|other| Some(SetupLink { provider: other, title: Preset::named(other)?.title }));
    let page = SetupPage {
        home: name.to_string(),
        title: preset.title.clone(),
        steps: preset.setup.steps.iter().map(filled).collect(),
        command: one_option_a_line(&filled(&preset.setup.command)),
        issuer: preset.issuer_form.clone().zip(preset.issuer_advice.clone()),
        scopes: preset.scopes.join(" "),
        others: others.collect(),
        action: path::UPSTREAM_SETUP.replace("{name}", name.as_str()),
        callback,
    };
    Ok(page.into_response())
}

/// A long command as people type it: narrow windows break it where shells do not mind.
fn one_option_a_line(command: &str) -> String {
    command.replace(" --", " \\\n  --")
}
