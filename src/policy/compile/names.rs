//! Which plugins ask under which server name.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::plugins::Plugins;
use super::scopes::Scopes;
use crate::handshake::server_name::{parent, Pattern};
use crate::policy::document::Document;

/// Sets of contributions, each known by a number; 0 is the empty set.
pub(super) struct Sets {
    members: Vec<Arc<[u32]>>,
    numbers: HashMap<Arc<[u32]>, usize>,
    unions: HashMap<(usize, usize), usize>,
}

impl Sets {
    pub fn new() -> Sets {
        let empty: Arc<[u32]> = [].into();
        Sets {
            members: vec![empty.clone()],
            numbers: HashMap::from([(empty, 0)]),
            unions: HashMap::new(),
        }
    }

    pub fn members(&self, set: usize) -> &[u32] {
        self.members.get(set).map_or(&[], |members| members)
    }

    fn of(&mut self, members: impl Iterator<Item = u32>) -> usize {
        let mut members: Vec<u32> = members.collect();
        members.sort_unstable();
        members.dedup();
        if let Some(&set) = self.numbers.get(&*members) {
            return set;
        }
        let members: Arc<[u32]> = members.into();
        self.members.push(members.clone());
        self.numbers.insert(members, self.members.len() - 1);
        self.members.len() - 1
    }

    fn union(&mut self, a: usize, b: usize) -> usize {
        if a == b || b == 0 {
            return a;
        }
        if a == 0 {
            return b;
        }
        if let Some(&set) = self.unions.get(&(a, b)) {
            return set;
        }
        let members = [self.members(a), self.members(b)].concat();
        let set = self.of(members.into_iter());
        self.unions.insert((a, b), set);
        set
    }
}

/// Which contributions each pattern brings on its own.
pub(super) struct Names<'t> {
    pub own: BTreeMap<Cow<'t, Pattern>, usize>,
    pub sets: Sets,
}

impl<'t> Names<'t> {
    pub fn new(document: &'t Document<'t>, scopes: &Scopes, plugins: &Plugins<'_>) -> Names<'t> {
        let mut names = Names {
            own: BTreeMap::new(),
            sets: Sets::new(),
        };
        names.add(
            Cow::Owned(Pattern::Any),
            plugins.contributed(&scopes.global),
        );
        for (position, route) in document.routes.iter().enumerate() {
            let slots = scopes.effective(position);
            if route.snis.is_empty() {
                names.add(Cow::Owned(Pattern::Any), plugins.contributed(&slots));
            }
            for pattern in &route.snis {
                names.add(Cow::Borrowed(pattern), plugins.contributed(&slots));
            }
        }
        for (_, slots) in scopes.routeless() {
            names.add(Cow::Owned(Pattern::Any), plugins.contributed(slots));
        }
        names
    }

    fn add(&mut self, pattern: Cow<'t, Pattern>, contributions: impl Iterator<Item = u32>) {
        let set = self.sets.of(contributions);
        if set != 0 {
            let own = self.own.entry(pattern).or_insert(0);
            *own = self.sets.union(*own, set);
        }
    }

    /// Everything that can be reached under a name: its own, its wildcard's and that of `*`.
    pub fn reached(&mut self, pattern: &Pattern) -> usize {
        let own = |pattern: &Pattern| self.own.get(pattern).copied().unwrap_or(0);
        let wildcard = match pattern {
            Pattern::Exact(name) => parent(name.as_bytes())
                .and_then(|parent| name.get(name.len() - parent.len()..))
                .map_or(0, |parent| own(&Pattern::Wildcard(parent.to_owned()))),
            Pattern::Wildcard(_) | Pattern::Any => 0,
        };
        let (exact, any) = (own(pattern), own(&Pattern::Any));
        let set = self.sets.union(exact, wildcard);
        self.sets.union(set, any)
    }
}
