//! One way of giving the application its credentials, whatever its kind: what must change is planned first, then put, and
//! each put has a way back. A plan without changes is how it is known that everything is in place.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;
use zeroize::Zeroizing;

use super::files::{CURRENT, FileSet, FilesError, Swapped};
use super::items::{ItemsEdit, ItemsError};
use super::merge::{Edited, Merge, MergeError, Replaced};
use super::render::{self, Credentials, RenderError, RenderedFile};
use super::rows::{RowEdit, Rows, RowsError};
use crate::application::{Application, ApplicationError};
use crate::config::RelyingPartyConfig;
use crate::identity::SecretBytes;
use crate::parameters::{ParameterError, Parameters, Values};
use crate::recipe::relying_party::RelyingParty;
use crate::recipe::way::{CredentialFile, Items, Target};

/// A way, and where it leads to at this installation.
#[derive(Debug)]
pub(crate) enum Way {
    /// The recipe writes nothing.
    Nothing,
    /// Files of the agent's own.
    Files(Vec<CredentialFile>, FileSet),
    /// Files that others write too.
    Merge(Merge),
    /// Rows of the application's database.
    Rows(Rows),
    /// Items of its administrative API.
    Items(Box<Items>),
}

/// What must change. Its values are secrets: it is only described.
pub(crate) enum Plan {
    /// Nothing.
    Nothing,
    /// A set of files.
    Files(Vec<RenderedFile>),
    /// Texts.
    Merge(Vec<Edited>),
    /// Rows.
    Rows(Vec<RowEdit>),
    /// Items.
    Items(ItemsEdit),
}

/// The way back.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Undo {
    /// To the set before.
    Files(Swapped),
    /// To the bytes before.
    Merge(Vec<Replaced>),
    /// To the columns before.
    Rows(Vec<RowEdit>),
    /// To the items before, as JSON.
    Items(SecretBytes),
}

/// Why a way cannot be gone, or not back.
#[derive(Debug, Error)]
pub(crate) enum WayError {
    /// Files of the agent's own.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Their text.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// Files of others.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// Rows.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// Items.
    #[error(transparent)]
    Items(#[from] ItemsError),
    /// What the recipe asks to know.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// What was kept for it belongs to another way.
    #[error("what was kept for going back is of another way of writing; put the application's settings right by hand")]
    AnotherWay,
}

impl WayError {
    /// Whether the application could not even be asked.
    pub(super) fn application_down(self) -> Result<ApplicationError, Self> {
        match self {
            Self::Items(ItemsError::Application(
                error @ (ApplicationError::Unreachable(_) | ApplicationError::Failing(_)),
            )) => Ok(error),
            other => Err(other),
        }
    }

    /// Whether going back will never come to more: somebody else has changed it since.
    pub(super) fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Merge(MergeError::ChangedMeanwhile(_))
                | Self::Rows(RowsError::ChangedMeanwhile(_))
                | Self::AnotherWay
        )
    }
}

impl Way {
    /// The one that is configured.
    pub(crate) fn of(recipe: &RelyingParty, config: &RelyingPartyConfig) -> Self {
        match recipe.way(config.way.as_deref()).map(|way| way.target.clone()) {
            None => Self::Nothing,
            Some(Target::Files(files)) => match &config.credentials_dir {
                Some(folder) => Self::Files(files, FileSet::at(folder, config.owner)),
                // The configuration has been checked for it.
                None => Self::Nothing,
            },
            Some(Target::Merge(files)) => Self::Merge(Merge { files, owner: config.owner }),
            Some(Target::Rows(rows)) => Self::Rows(Rows(rows)),
            Some(Target::Items(items)) => Self::Items(items),
        }
    }

    /// What is known without the credentials and without asking anybody.
    pub(super) fn glance(&self) -> Glance {
        match self {
            Self::Nothing => Glance::InPlace,
            Self::Files(files, set) => {
                let current = set.folder().join(CURRENT);
                let there = files.iter().all(|file| current.join(&file.name).is_file());
                if there { Glance::InPlace } else { Glance::Gone }
            }
            Self::Merge(_) | Self::Rows(_) | Self::Items(_) => Glance::Unknown,
        }
    }

    /// What must change for these credentials.
    pub(crate) async fn plan(&self, application: &Application, credentials: &Credentials) -> Result<Plan, WayError> {
        let parameters = self.parameters(application.parameters())?;
        let values = [credentials.values(), parameters.pairs()].concat();
        Ok(match self {
            Self::Nothing => Plan::Nothing,
            Self::Files(files, set) => {
                let files = render::render(files, &values)?;
                if set.holds(&files) { Plan::Nothing } else { Plan::Files(files) }
            }
            Self::Merge(merge) => Plan::Merge(merge.plan(application.parameters(), &values)?),
            Self::Rows(rows) => Plan::Rows(rows.plan(application.parameters(), &values).await?),
            Self::Items(items) => Plan::Items(items.plan(application, &values).await?),
        })
    }

    /// Makes the changes.
    pub(super) async fn put(
        &self,
        application: &Application,
        credentials: &Credentials,
        plan: Plan,
    ) -> Result<Option<Undo>, WayError> {
        let undo = plan.undo();
        match (self, plan) {
            (Self::Files(_, set), Plan::Files(files)) => {
                set.make()?;
                return Ok(Some(Undo::Files(set.write(credentials.secret_version, &files)?)));
            }
            (Self::Merge(merge), Plan::Merge(edited)) => merge.put(&edited)?,
            (Self::Rows(rows), Plan::Rows(edits)) => rows.put(application.parameters(), &edits).await?,
            (Self::Items(items), Plan::Items(edit)) => {
                items.put(application, &edit).await?;
                if !self.plan(application, credentials).await?.is_empty() {
                    return Err(ItemsError::NotTaken.into());
                }
            }
            _ => {}
        }
        Ok(undo)
    }

    /// Goes back.
    pub(super) async fn undo(&self, application: &Application, undo: &Undo) -> Result<(), WayError> {
        match (self, undo) {
            (Self::Files(_, set), Undo::Files(swapped)) => set.roll_back(swapped)?,
            (Self::Merge(merge), Undo::Merge(replaced)) => merge.undo(replaced)?,
            (Self::Rows(rows), Undo::Rows(edits)) => rows.undo(application.parameters(), edits).await?,
            (Self::Items(items), Undo::Items(old)) => {
                let old: Vec<Value> = serde_json::from_slice(&old.0).map_err(|_| WayError::AnotherWay)?;
                items.undo(application, &old).await?;
            }
            _ => return Err(WayError::AnotherWay),
        }
        Ok(())
    }

    /// Nobody will go back any more.
    pub(super) fn stay(&self, undo: &Undo) -> Result<(), WayError> {
        match (self, undo) {
            (Self::Files(_, set), Undo::Files(swapped)) => Ok(set.forget_older(swapped)?),
            _ => Ok(()),
        }
    }

    /// The parameters that stand in what is written.
    fn parameters(&self, parameters: &Parameters) -> Result<Values, ParameterError> {
        let names: Vec<&str> = match self {
            Self::Nothing => Vec::new(),
            Self::Files(files, _) => files.iter().flat_map(|file| file.content.placeholders()).collect(),
            Self::Merge(merge) => merge.files.iter().flat_map(|file| file.content.placeholders()).collect(),
            Self::Rows(rows) => {
                let of_link = rows.0.iter().filter_map(|row| row.link.as_ref()).flat_map(|link| link.set.values());
                let of_row = rows.0.iter().flat_map(|row| row.key.values().chain(row.set.values()));
                of_row.chain(of_link).flat_map(|content| content.placeholders()).collect()
            }
            Self::Items(items) => items.set.values().flat_map(|content| content.placeholders()).collect(),
        };
        parameters.values(names)
    }
}

/// What can be seen without asking anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Glance {
    /// Everything is there.
    InPlace,
    /// Something is gone.
    Gone,
    /// Only a plan can tell.
    Unknown,
}

impl Plan {
    /// Whether everything is in place.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Files(files) => files.is_empty(),
            Self::Merge(edited) => edited.is_empty(),
            Self::Rows(edits) => edits.is_empty(),
            Self::Items(edit) => edit.is_empty(),
        }
    }

    /// What would change, for people: no values.
    pub(crate) fn describe(&self) -> Vec<String> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Files(files) => files.iter().map(|file| format!("write {}", file.name)).collect(),
            Self::Merge(edited) => edited.iter().flat_map(Edited::describe).collect(),
            Self::Rows(edits) => edits.iter().map(RowEdit::describe).collect(),
            Self::Items(edit) if edit.is_empty() => Vec::new(),
            Self::Items(edit) => vec![edit.describe()],
        }
    }

    /// What was taken out of files of others, and why.
    pub(super) fn removed(&self) -> Vec<String> {
        match self {
            Self::Merge(edited) => edited.iter().flat_map(|edited| edited.removed.iter().cloned()).collect(),
            Self::Nothing | Self::Files(_) | Self::Rows(_) | Self::Items(_) => Vec::new(),
        }
    }

    /// The way back, as far as it is known before anything is written.
    pub(super) fn undo(&self) -> Option<Undo> {
        match self {
            Self::Nothing | Self::Files(_) => None,
            Self::Merge(edited) => Some(Undo::Merge(edited.iter().map(Edited::undo).collect())),
            Self::Rows(edits) => Some(Undo::Rows(edits.clone())),
            Self::Items(edit) => {
                let old = serde_json::to_vec(&edit.old).unwrap_or_default();
                Some(Undo::Items(SecretBytes(Zeroizing::new(old))))
            }
        }
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.describe()).finish()
    }
}

impl fmt::Debug for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files(_) => "Undo(Files)",
            Self::Merge(_) => "Undo(Merge)",
            Self::Rows(_) => "Undo(Rows)",
            Self::Items(_) => "Undo(Items)",
        })
    }
}
