//! The operator's API: what people and their programs change while the proxy runs. `/v1/…` on the Unix socket in the state
//! folder (S16), and with a bearer token on `listen.admin` (S17). Each topic is a [`Desk`]; this file knows none of them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::Value;

/// Where the API begins.
pub const ROOT: &str = "/v1";

/// What a caller may do. The socket may do all of it: who can open it owns the state anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Read,
    /// Stop: freeze, kill switch; and undo it.
    Operate,
    /// Answer questions about single payments.
    Approve,
    /// Allow more than before: mandates, looser policies.
    Raise,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Read, Self::Operate, Self::Approve, Self::Raise];

    /// Its name in the token file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Approve => "approve",
            Self::Raise => "raise",
        }
    }
}

/// A set of roles.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// All of them.
    pub const ALL: Self = Self(0b1111);

    /// With `role` too.
    #[must_use]
    pub const fn with(self, role: Role) -> Self {
        Self(self.0 | 1 << role as u8)
    }

    /// Whether `role` is among them. Whoever may do anything may look.
    pub const fn has(self, role: Role) -> bool {
        match role {
            Role::Read => self.0 != 0,
            _ => self.0 & (1 << role as u8) != 0,
        }
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(Role::ALL.into_iter().filter(|r| self.has(*r)).map(Role::as_str)).finish()
    }
}

/// One request of an operator.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who asks, for the log: `socket`, or the name of a token.
    pub who: Arc<str>,
    /// What they may do.
    pub roles: Roles,
    /// Method.
    pub method: http::Method,
    /// Path below [`ROOT`], such as `/kill`; without query.
    pub path: String,
    /// Body; `Null` for none.
    pub body: Value,
}

impl Call {
    /// Passes only callers with `role`.
    ///
    /// # Errors
    /// 403 that names the role.
    pub fn need(&self, role: Role) -> Result<(), ApiError> {
        if self.roles.has(role) {
            return Ok(());
        }
        Err(ApiError { status: 403, code: "role_missing", message: format!("this token lacks the role `{}`", role.as_str()) })
    }

    /// Method and the path after `prefix`, for a `match`: `("POST", "/42/approve")`.
    pub fn route<'a>(&'a self, prefix: &str) -> (&'a str, &'a str) {
        (self.method.as_str(), self.path.strip_prefix(prefix).unwrap_or(&self.path))
    }

    /// The text in field `name` of the body, if there is one.
    ///
    /// # Errors
    /// It is not text, or longer than `longest` bytes, or has control characters: it goes to logs and terminals.
    pub fn text(&self, name: &str, longest: usize) -> Result<Option<&str>, ApiError> {
        match self.body.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.len() <= longest && !text.chars().any(char::is_control) => Ok(Some(text)),
            Some(_) => Err(ApiError::bad(format!("`{name}` must be text of at most {longest} bytes on one line"))),
        }
    }
}

/// Why a call was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// For programs.
    pub code: &'static str,
    /// For people: what is wrong and what to do instead.
    pub message: String,
}

impl ApiError {
    /// 400: the body or path says something that cannot be.
    pub fn bad(message: impl Into<String>) -> Self {
        Self { status: 400, code: "bad_request", message: message.into() }
    }

    /// 404: no such path, or no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { status: 404, code: "not_found", message: message.into() }
    }

    /// 405: the path is right, the method is not.
    pub fn method() -> Self {
        Self { status: 405, code: "method_not_allowed", message: "this path does not know that method".into() }
    }

    /// 409: it is not in a state in which that can be done.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: 409, code, message: message.into() }
    }

    /// 503: not now; nothing was changed.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { status: 503, code: "unavailable", message: message.into() }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

/// What a desk answers, when it has.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Value, ApiError>> + Send + 'a>>;

/// Answers the calls of one topic.
pub trait Desk: Send + Sync {
    /// The paths it answers, such as `/approvals`: this one and all below it.
    fn prefix(&self) -> &'static str;

    /// Answers one call. It checks the roles itself ([`Call::need`]): they differ from path to path.
    fn call<'a>(&'a self, call: &'a Call) -> Answer<'a>;
}

/// All desks.
#[derive(Clone, Default)]
pub struct Api {
    desks: Vec<Arc<dyn Desk>>,
}

impl Api {
    /// With these desks.
    pub fn new(desks: Vec<Arc<dyn Desk>>) -> Self {
        Self { desks }
    }

    /// Lets the right desk answer, and writes down who changed what (S16).
    ///
    /// # Errors
    /// Those of the desk; 404 if there is none.
    pub async fn answer(&self, call: &Call) -> Result<Value, ApiError> {
        let mine = |d: &&Arc<dyn Desk>| call.path.strip_prefix(d.prefix()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let answer = match self.desks.iter().find(mine) {
            Some(desk) => desk.call(call).await,
            None => Err(ApiError::not_found(format!("below {ROOT} there are: {}", self.prefixes()))),
        };
        if call.method != http::Method::GET {
            let status = answer.as_ref().map_or_else(|e| e.status, |_| 200);
            let path: String = call.path.chars().filter(|c| !c.is_control()).take(200).collect();
            tracing::info!(who = %call.who, method = %call.method, path, status, "an operator's call");
        }
        answer
    }

    fn prefixes(&self) -> String {
        self.desks.iter().map(|d| d.prefix()).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Api").field(&self.prefixes()).finish()
    }
}
