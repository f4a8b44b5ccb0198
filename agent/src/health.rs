//! How the instance is: what heartbeats and the home picker say of it.

use homeward_proto::v1::AgentState;

use crate::application::Application;
use crate::config::Config;
use crate::config::home::HomeConfig;
use crate::recipe::AppPath;
use crate::resources::standing::State;

/// Longest sentence that the contract allows, in characters.
const LONGEST_PROBLEM: usize = 256;

/// Asks the application.
#[derive(Debug)]
pub(crate) struct Health {
    application: Application,
    path: Option<AppPath>,
    home: HomeReadiness,
}

/// When logins at this home are possible.
#[derive(Debug, Clone, Copy)]
enum HomeReadiness {
    /// Never: it is none.
    NoHome,
    /// While the application answers.
    WithApplication,
    /// Always: the application does not know its users.
    Always,
}

impl Health {
    /// Of the application that is configured.
    pub(crate) fn new(config: &Config, application: Application) -> Self {
        let asks = config.home.as_ref().is_some_and(HomeConfig::asks_the_application);
        let home = config.recipe.home.as_ref().filter(|_| asks);
        let who_am_i = home.and_then(|home| home.who_am_i.first()).and_then(|request| request.path.fill(&[]).ok());
        let role = config.recipe.relying_party.as_ref().filter(|_| asks || config.relying_party.is_some());
        let proof = role.and_then(|role| role.proof.0.first());
        // Any answer will do, so the proof's own headers are not needed.
        let path = who_am_i.or_else(|| proof.and_then(|proof| proof.request.path.fill(&[]).ok()));
        let home = match &config.home {
            None => HomeReadiness::NoHome,
            Some(_) if !asks => HomeReadiness::Always,
            Some(_) => HomeReadiness::WithApplication,
        };
        Self { application, path, home }
    }

    /// Whether there is anything that the application is asked.
    pub(crate) fn asks(&self) -> bool {
        self.path.is_some()
    }

    /// Now.
    pub(crate) async fn state(&self, standing: &State) -> AgentState {
        let healthy = match &self.path {
            Some(path) => self.application.is_up(path).await,
            None => true,
        };
        let problem = match standing.refusals.values().next() {
            _ if !healthy => "The application does not answer.".to_owned(),
            Some(refusal) => refusal.detail.chars().take(LONGEST_PROBLEM).collect(),
            None => String::new(),
        };
        let home_ready = match self.home {
            HomeReadiness::NoHome => false,
            HomeReadiness::WithApplication => healthy,
            HomeReadiness::Always => true,
        };
        AgentState { application_healthy: healthy, home_ready, problem }
    }
}
