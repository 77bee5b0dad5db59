//! Who is asking, what they may do, and whose data they may see. A [`Caller`] exists only where somebody was
//! authenticated, and every façade method that reads or changes a person's data demands one.
//!
//! A key has roles, a role stands for scopes, and a route or tool asks for one scope. Which collections a caller may see
//! is decided inside the queries of this crate: for whom a collection is not granted, it does not exist. Which language
//! models one may ask is kept here too, and decided where models are known.

use std::{collections::BTreeSet, fmt, sync::Arc};

use crate::keys::KeyTerms;

macro_rules! scopes {
    ($($(#[$doc:meta])* $variant:ident = $word:literal;)*) => {
        /// One kind of thing that may be done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Scope {
            $($(#[$doc])* $variant,)*
        }

        impl Scope {
            /// Every scope there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word it is written as.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    };
}

scopes! {
    /// Find passages.
    Search = "search";
    /// List documents and read their texts.
    DocumentsRead = "documents:read";
    /// Store documents.
    DocumentsWrite = "documents:write";
    /// Remove documents.
    DocumentsDelete = "documents:delete";
    /// See which collections there are and how large they are.
    CollectionsRead = "collections:read";
    /// Make, move and remove collections.
    CollectionsManage = "collections:manage";
    /// See which folders are indexed and which files were skipped.
    SourcesRead = "sources:read";
    /// Have the server read its own files.
    SourcesManage = "sources:manage";
    /// See accepted work and how far it is.
    JobsRead = "jobs:read";
    /// Turn texts into vectors and tokens.
    Embed = "embed";
    /// See the models.
    ModelsRead = "models:read";
    /// Fetch, connect and verify models.
    ModelsManage = "models:manage";
    /// Ask language models, keep sessions, look up context; and read back what was asked oneself.
    Chat = "chat";
    /// See which providers of language models there are.
    ProvidersRead = "providers:read";
    /// Connect and remove providers of language models.
    ProvidersManage = "providers:manage";
    /// See and set what may be spent.
    BudgetsManage = "budgets:manage";
    /// Read what others asked and were answered.
    InteractionsRead = "interactions:read";
    /// Put on record what was asked and answered elsewhere.
    InteractionsWrite = "interactions:write";
    /// See how far learning is, and what it has come to.
    LearningRead = "learning:read";
    /// See how each part is.
    StatusRead = "status:read";
    /// Read the metrics.
    MetricsRead = "metrics:read";
    /// Look for damage and repair it.
    SystemRepair = "system:repair";
    /// Make, list, rotate and revoke keys.
    KeysManage = "keys:manage";
    /// Speak MCP; each tool asks for its own scope besides.
    Mcp = "mcp";
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scopes(u32);

impl Scopes {
    /// Everything.
    pub const ALL: Self = Self(u32::MAX >> (u32::BITS as usize - Scope::ALL.len()));

    /// These and no others.
    pub const fn of(scopes: &[Scope]) -> Self {
        let (mut set, mut at) = (0, 0);
        while at < scopes.len() {
            set |= 1 << scopes[at] as u32;
            at += 1;
        }
        Self(set)
    }

    /// Whether the scope is among them.
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u32) != 0
    }

    /// Whether all of `other` are among them.
    pub const fn covers(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and those.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |scope| self.contains(*scope))
    }
}

/// What a key is for. It stands for the scopes that this takes, and no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Everything, keys included.
    Admin,
    /// Runs the server: models, providers, budgets, sources, collections, repairs. Reads no document and nobody's
    /// questions, and makes no key.
    Operator,
    /// Fills and reads the knowledge base.
    Editor,
    /// Reads the knowledge base, embeds, and asks language models.
    Reader,
    /// A program that acts for somebody: reads, adds, removes nothing.
    Agent,
    /// Reads the metrics.
    Metrics,
}

impl Role {
    /// Every role there is.
    pub const ALL: [Self; 6] = [Self::Admin, Self::Operator, Self::Editor, Self::Reader, Self::Agent, Self::Metrics];

    /// The word it is written as.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Editor => "editor",
            Self::Reader => "reader",
            Self::Agent => "agent",
            Self::Metrics => "metrics",
        }
    }

    /// The role of that name.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }

    /// What it may do.
    pub const fn scopes(self) -> Scopes {
        use Scope::{
            BudgetsManage, Chat, CollectionsManage, CollectionsRead, DocumentsDelete, DocumentsRead, DocumentsWrite,
            Embed, InteractionsWrite, JobsRead, LearningRead, Mcp, MetricsRead, ModelsManage, ModelsRead,
            ProvidersManage, ProvidersRead, Search, SourcesManage, SourcesRead, StatusRead, SystemRepair,
        };
        const READS: Scopes =
            Scopes::of(&[Search, DocumentsRead, CollectionsRead, Embed, ModelsRead, Chat, StatusRead, Mcp]);
        match self {
            Self::Admin => Scopes::ALL,
            Self::Operator => Scopes::of(&[
                CollectionsRead,
                CollectionsManage,
                SourcesRead,
                SourcesManage,
                JobsRead,
                ModelsRead,
                ModelsManage,
                ProvidersRead,
                ProvidersManage,
                BudgetsManage,
                LearningRead,
                StatusRead,
                MetricsRead,
                SystemRepair,
            ]),
            Self::Editor => READS.and(Scopes::of(&[
                DocumentsWrite,
                DocumentsDelete,
                CollectionsManage,
                SourcesRead,
                JobsRead,
                InteractionsWrite,
            ])),
            Self::Reader => READS,
            Self::Agent => READS.and(Scopes::of(&[DocumentsWrite, JobsRead, InteractionsWrite])),
            Self::Metrics => Scopes::of(&[MetricsRead]),
        }
    }

    /// The roles that have a scope.
    pub fn with(scope: Scope) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |role| role.scopes().contains(scope))
    }
}

/// Which collections a caller may see, or which language models ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Grants {
    /// All, those to come included.
    All,
    /// All, but of what was learned of somebody ([`learned_collection`]) only that of this name.
    AllBut(Arc<str>),
    /// Those of these names, whether they are there or not.
    Only(Arc<BTreeSet<String>>),
}

/// How names of collections begin that hold what was learned of somebody's interactions.
const LEARNED: &str = "learned.";

/// The collection that holds what was learned of a tenant's interactions. They are nobody else's business, so only its
/// own key sees it, and who may read all interactions.
pub fn learned_collection(tenant: &str) -> String {
    const NAME_BYTES_MAX: usize = 64;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if tenant.len() <= NAME_BYTES_MAX - LEARNED.len() && tenant.bytes().all(is_plain) {
        return format!("{LEARNED}{tenant}");
    }
    // With a dot, which no plain one has.
    format!("{LEARNED}.{}", &blake3::hash(tenant.as_bytes()).to_hex()[..32])
}

/// Whether a collection holds what was learned of somebody's interactions.
pub fn is_learned(collection: &str) -> bool {
    collection.starts_with(LEARNED)
}

impl Grants {
    /// Those of these names.
    pub fn only(names: impl IntoIterator<Item = String>) -> Self {
        Self::Only(Arc::new(names.into_iter().collect()))
    }

    /// Whether what has that name is among them.
    pub fn include(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::AllBut(own) => !is_learned(name) || name == &**own,
            Self::Only(names) => names.contains(name),
        }
    }

    /// Whether whoever has these has all of `other`.
    pub fn cover(&self, other: &Self) -> bool {
        match (self, other) {
            // A key with all of them gets all but what was learned of others, unless its scopes say more.
            (Self::All, _) | (Self::AllBut(_), Self::All | Self::AllBut(_)) => true,
            (Self::AllBut(_), Self::Only(names)) => names.iter().all(|name| self.include(name)),
            (Self::Only(_), Self::All | Self::AllBut(_)) => false,
            (Self::Only(mine), Self::Only(theirs)) => theirs.is_subset(mine),
        }
    }

    /// As a query takes it for [`GRANTED`]: nothing for all, a JSON string for all but others', else a list of names.
    pub(crate) fn parameter(&self) -> Option<String> {
        match self {
            Self::All => None,
            Self::AllBut(own) => Some(serde_json::Value::from(&**own).to_string()),
            Self::Only(names) => Some(serde_json::Value::from_iter(names.iter().map(String::as_str)).to_string()),
        }
    }
}

/// The condition on a collection `c` that a query with grants has, whose first parameter is [`Grants::parameter`].
pub(crate) const GRANTED: &str = "(?1 IS NULL OR c.name IN (SELECT value FROM json_each(?1))
     OR (json_type(?1) = 'text' AND c.name NOT GLOB 'learned.*'))";

/// Proof that a request was authenticated, and as whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller(Arc<Identity>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Identity {
    id: String,
    scopes: Scopes,
    grants: Grants,
    models: Grants,
}

/// No key's id is like it: those begin with `key_`.
const OWNER: &str = "owner";

impl Caller {
    /// The owner of the data directory, at the control socket or in this very process.
    pub fn owner() -> Self {
        Self::new(OWNER.to_owned(), Scopes::ALL, Grants::All, Grants::All)
    }

    /// Whether this is the owner, and not somebody with a key.
    pub fn is_owner(&self) -> bool {
        self.0.id == OWNER
    }

    /// A key that [`crate::Storage::authenticate`] found valid.
    pub(crate) fn key(id: String, terms: KeyTerms) -> Self {
        let scopes = terms.scopes();
        let own = learned_collection(&id);
        let grants = match terms.grants {
            Grants::All if !scopes.contains(Scope::InteractionsRead) => Grants::AllBut(own.into()),
            Grants::Only(names) => Grants::only(names.iter().cloned().chain([own])),
            others => others,
        };
        Self::new(id, scopes, grants, terms.models)
    }

    fn new(id: String, scopes: Scopes, grants: Grants, models: Grants) -> Self {
        Self(Arc::new(Identity { id, scopes, grants, models }))
    }

    /// A stable name for records: the key's id, or `owner`.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Whether this may be done.
    pub fn may(&self, scope: Scope) -> bool {
        self.0.scopes.contains(scope)
    }

    /// Everything that may be done.
    pub fn scopes(&self) -> Scopes {
        self.0.scopes
    }

    /// The collections that may be seen.
    pub fn grants(&self) -> &Grants {
        &self.0.grants
    }

    /// The language models that may be asked, in the words of [`KeyTerms::models`].
    pub fn models(&self) -> &Grants {
        &self.0.models
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_has_its_bit_and_its_word() {
        assert_eq!(Scopes::of(Scope::ALL), Scopes::ALL);
        assert_eq!(Scopes::ALL.iter().count(), Scope::ALL.len());
        let words: BTreeSet<_> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
        assert_eq!(words.len(), Scope::ALL.len());
        for scope in Scope::ALL {
            assert!(!Scopes::default().contains(*scope));
            assert!(Role::with(*scope).any(|role| role == Role::Admin));
        }
    }

    #[test]
    fn roles_stand_for_no_more_than_they_are_for() {
        let all_but_admin = [Role::Operator, Role::Editor, Role::Reader, Role::Agent, Role::Metrics];
        for role in all_but_admin {
            assert!(!role.scopes().contains(Scope::KeysManage), "{role} may make keys");
            assert!(Role::Admin.scopes().covers(role.scopes()));
        }
        assert!(!Role::Operator.scopes().contains(Scope::Search), "who runs the server reads no documents");
        assert!(Role::with(Scope::InteractionsRead).eq([Role::Admin]), "what others asked is nobody's business");
        assert!(Role::with(Scope::Chat).eq([Role::Admin, Role::Editor, Role::Reader, Role::Agent]));
        assert!(Role::with(Scope::ProvidersManage).eq([Role::Admin, Role::Operator]));
        assert!(Role::with(Scope::BudgetsManage).eq([Role::Admin, Role::Operator]));
        assert!(!Role::Agent.scopes().contains(Scope::DocumentsDelete));
        assert!(!Role::Reader.scopes().contains(Scope::DocumentsWrite));
        assert_eq!(Role::Metrics.scopes().iter().collect::<Vec<_>>(), [Scope::MetricsRead]);
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
        assert_eq!(Role::parse("Admin"), None);
    }

    #[test]
    fn grants_cover_what_is_within_them() {
        let some = |names: &[&str]| Grants::only(names.iter().map(|name| (*name).to_owned()));
        assert!(Grants::All.cover(&Grants::All) && Grants::All.cover(&some(&["a"])));
        assert!(some(&["a", "b"]).cover(&some(&["b"])) && some(&[]).cover(&some(&[])));
        assert!(!some(&["a"]).cover(&some(&["a", "b"])) && !some(&["a"]).cover(&Grants::All));
        assert!(some(&["a"]).include("a") && !some(&["a"]).include("A") && !some(&[]).include(""));
        assert_eq!(some(&["a\"b"]).parameter().as_deref(), Some(r#"["a\"b"]"#));
    }

    #[test]
    fn what_was_learned_of_others_is_not_granted() {
        let some = |names: &[&str]| Grants::only(names.iter().map(|name| (*name).to_owned()));
        let own = learned_collection("key_1");
        let all_but = Grants::AllBut(own.as_str().into());
        assert!(all_but.include("default") && all_but.include(&own) && !all_but.include("learned.key_2"));
        assert!(all_but.cover(&Grants::All) && Grants::All.cover(&all_but) && !some(&["a"]).cover(&all_but));
        assert!(all_but.cover(&some(&["default", &own])) && !all_but.cover(&some(&["learned.key_2"])));
        let key = |terms| Caller::key("key_1".to_owned(), terms).grants().clone();
        assert_eq!(key(KeyTerms::of("agent", Role::Agent)), all_but);
        assert_eq!(key(KeyTerms::of("admin", Role::Admin)), Grants::All);
        let limited = KeyTerms { grants: some(&["a"]), ..KeyTerms::of("limited", Role::Agent) };
        assert_eq!(key(limited), some(&["a", &own]));
    }

    #[test]
    fn any_tenant_has_a_collection_of_its_own() {
        let long = "x".repeat(200);
        let tenants = ["owner", "key_1", "a.b", "", "ü", &long, "../..", "A"];
        let names: std::collections::BTreeSet<String> =
            tenants.iter().map(|tenant| learned_collection(tenant)).collect();
        assert_eq!(names.len(), tenants.len());
        assert!(names.iter().all(|name| is_learned(name) && name.len() <= 64 && name.is_ascii()), "{names:?}");
        assert_eq!(learned_collection("owner"), "learned.owner");
    }
}
