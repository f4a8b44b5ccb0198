//! A key-encryption key in a PKCS#11 token: an AES key that is found by its label and never leaves. It seals with AES-GCM.
//!
//! Every use opens a session of its own. Keys are wrapped at a start and at a turn: that a token was taken out and put back
//! in between, or a session of a network HSM has ended, is then no matter.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use crate::secret::kek::{Created, KekId};
use crate::secret::private_file::private_text;
use crate::secret::{Sealed, SecretError, random};

/// How often a token is asked that says no more than that it failed.
const TRIES: usize = 3;

/// Length of the nonce of AES-GCM, and of its tag in bits.
const NONCE: usize = 12;
const TAG_BITS: u64 = 128;

/// Bytes of an AES-256 key.
const KEY: u64 = 32;

/// Where in which token a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSource {
    /// The library of whoever made the token.
    pub module: PathBuf,
    /// Label of the token.
    pub token_label: String,
    /// Label of the key.
    pub key_label: String,
    /// The user's PIN.
    pub pin_file: PathBuf,
}

impl TokenSource {
    /// Makes the key, unless the token has it.
    pub(super) fn create(&self) -> Result<Created, TokenError> {
        let token = Token::open(self)?;
        let session = token.session(Access::Write)?;
        match token.key(&session) {
            Ok(_) => return Ok(Created::WasThere),
            Err(TokenError::NoKey(_)) => {}
            Err(error) => return Err(error),
        }
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::ValueLen(KEY.into()),
            Attribute::Label(self.key_label.as_bytes().to_vec()),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Encrypt(true),
            Attribute::Decrypt(true),
        ];
        session.generate_key(&Mechanism::AesKeyGen, &template).map_err(|error| self.failed(error))?;
        Ok(Created::Made)
    }

    fn failed(&self, error: Error) -> TokenError {
        match error {
            Error::Pkcs11(RvError::PinIncorrect | RvError::PinLenRange | RvError::PinInvalid, _) => {
                TokenError::PinWrong(Box::new(self.clone()))
            }
            Error::Pkcs11(RvError::PinLocked, _) => TokenError::PinLocked(Box::new(self.clone())),
            error => TokenError::Failed(Box::new(self.clone()), error),
        }
    }
}

impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "token={};object={}", self.token_label, self.key_label)
    }
}

/// The library, and how to get at the key.
struct Token {
    library: Pkcs11,
    pin: AuthPin,
    source: TokenSource,
}

/// What a session may do.
#[derive(Clone, Copy)]
enum Access {
    Read,
    Write,
}

impl Token {
    fn open(source: &TokenSource) -> Result<Self, TokenError> {
        let pin = private_text(&source.pin_file)?;
        let pin = AuthPin::from(pin.trim_end_matches(['\r', '\n']).to_owned());
        let library = Pkcs11::new(&source.module).map_err(|error| TokenError::Module(source.module.clone(), error))?;
        match library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            // By the other key of this process.
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(TokenError::Module(source.module.clone(), error)),
        }
        Ok(Self { library, pin, source: source.clone() })
    }

    fn session(&self, access: Access) -> Result<Session, TokenError> {
        let failed = |error| self.source.failed(error);
        let slots = self.library.get_slots_with_initialized_token().map_err(failed)?;
        // One that does not answer is not the one that was meant.
        let labelled = |slot: &cryptoki::slot::Slot| {
            self.library.get_token_info(*slot).is_ok_and(|token| token.label() == self.source.token_label)
        };
        let slot =
            slots.into_iter().find(labelled).ok_or_else(|| TokenError::NoToken(Box::new(self.source.clone())))?;
        let session = match access {
            Access::Read => self.library.open_ro_session(slot),
            Access::Write => self.library.open_rw_session(slot),
        };
        let session = session.map_err(failed)?;
        match session.login(UserType::User, Some(&self.pin)) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(error) => Err(failed(error)),
        }
    }

    fn key(&self, session: &Session) -> Result<ObjectHandle, TokenError> {
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Label(self.source.key_label.as_bytes().to_vec()),
        ];
        let found = session.find_objects(&template).map_err(|error| self.source.failed(error))?;
        match found[..] {
            [] => Err(TokenError::NoKey(Box::new(self.source.clone()))),
            [key] => Ok(key),
            _ => Err(TokenError::ManyKeys(Box::new(self.source.clone()))),
        }
    }
}

/// A key in a token.
pub struct TokenKey {
    id: KekId,
    /// One at a time: a token is slow, and logging in counts for all sessions of a process.
    token: Mutex<Token>,
}

impl TokenKey {
    /// Finds the key.
    pub(super) fn open(source: &TokenSource) -> Result<Self, TokenError> {
        let token = Token::open(source)?;
        token.key(&token.session(Access::Read)?)?;
        Ok(Self { id: KekId::new(format!("pkcs11:{source}")), token: Mutex::new(token) })
    }

    /// Which it is.
    pub(super) fn id(&self) -> &KekId {
        &self.id
    }

    /// Seals a data key; its id is authenticated.
    pub(super) fn wrap(&self, id: &str, bytes: &[u8; 32]) -> Result<Sealed, TokenError> {
        let mut nonce = random::<NONCE>()?;
        let text = self.used(&mut nonce, id, |session, mechanism, key| session.encrypt(mechanism, key, bytes))?;
        let text = text.map_err(|error| self.failed(error))?;
        // Some tokens insist on a nonce of their own, and write it where ours was.
        Ok(Sealed::new(&nonce, &text))
    }

    /// Opens a data key; nothing if this key did not seal it.
    pub(super) fn unwrap(&self, id: &str, wrapped: &Sealed) -> Result<Option<Zeroizing<[u8; 32]>>, TokenError> {
        let (nonce, text) = wrapped.parts::<NONCE>()?;
        for _ in 0..TRIES {
            let opened = self.used(&mut nonce.clone(), id, |session, mechanism, key| {
                session.decrypt(mechanism, key, text).map(Zeroizing::new)
            });
            match opened? {
                Ok(bytes) => return Ok(bytes.as_slice().try_into().ok().map(Zeroizing::new)),
                // It may say that of another reason, too.
                Err(Error::Pkcs11(RvError::GeneralError, _)) => {}
                Err(Error::Pkcs11(code, _)) if refuses_text(code) => return Ok(None),
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(None)
    }

    fn failed(&self, error: Error) -> TokenError {
        self.token.lock().unwrap_or_else(std::sync::PoisonError::into_inner).source.failed(error)
    }

    /// What the token says to this. That it cannot be asked at all is another matter.
    fn used<T>(
        &self,
        nonce: &mut [u8; NONCE],
        id: &str,
        work: impl FnOnce(&Session, &Mechanism<'_>, ObjectHandle) -> Result<T, Error>,
    ) -> Result<Result<T, Error>, TokenError> {
        let token = self.token.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let session = token.session(Access::Read)?;
        let key = token.key(&session)?;
        let parameters = GcmParams::new(nonce, id.as_bytes(), TAG_BITS.into());
        let parameters = parameters.map_err(|error| token.source.failed(error))?;
        Ok(work(&session, &Mechanism::AesGcm(parameters), key))
    }
}

/// What tokens say of a text whose tag is not right. (SoftHSM says a general error.)
fn refuses_text(code: RvError) -> bool {
    matches!(code, RvError::EncryptedDataInvalid | RvError::EncryptedDataLenRange)
}

/// Why a token does not do it.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The PIN cannot be read, or there is no randomness.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// No library, or one that does not start.
    #[error("{} cannot be used as a PKCS#11 module", .0.display())]
    Module(PathBuf, #[source] Error),
    /// None of this label.
    #[error("there is no PKCS#11 token {:?}: is it plugged in, and pkcs11.token_label right?", .0.token_label)]
    NoToken(Box<TokenSource>),
    /// None of this label.
    #[error("the PKCS#11 token {:?} has no AES key {:?}: make it with `homeward-broker kek create`", .0.token_label, .0.key_label)]
    NoKey(Box<TokenSource>),
    /// Labels need not be unique.
    #[error("the PKCS#11 token {:?} has more than one AES key {:?}: give the right one a label of its own", .0.token_label, .0.key_label)]
    ManyKeys(Box<TokenSource>),
    /// It counts.
    #[error("the PKCS#11 token {:?} refuses the PIN in {}: put it right before the token locks itself", .0.token_label, pin(.0).display())]
    PinWrong(Box<TokenSource>),
    /// It has counted.
    #[error("the PIN of the PKCS#11 token {:?} is locked: its security officer has to set a new one", .0.token_label)]
    PinLocked(Box<TokenSource>),
    /// Something else.
    #[error("the PKCS#11 token {:?} does not do it", .0.token_label)]
    Failed(Box<TokenSource>, #[source] Error),
}

fn pin(source: &TokenSource) -> &Path {
    &source.pin_file
}
