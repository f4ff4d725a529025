//! The plugins that request a certificate, by server name.

use std::sync::Arc;

use super::plugins::Plugins;
use super::scopes::Scopes;
use crate::handshake::server_name::{is_address, parent, Pattern};
use crate::policy::document::{Document, PluginKind};
use crate::policy::Map;

/// Sets of contributions, each with a number; 0 is the empty set.
pub(super) struct ContributionSets {
    members: Vec<Arc<[u32]>>,
    by_members: Map<Arc<[u32]>, usize>,
    unions: Map<(usize, usize), usize>,
}

impl ContributionSets {
    fn new() -> ContributionSets {
        let empty: Arc<[u32]> = [].into();
        ContributionSets {
            members: vec![empty.clone()],
            by_members: Map::from_iter([(empty, 0)]),
            unions: Map::default(),
        }
    }

    pub fn members(&self, set: usize) -> &[u32] {
        self.members.get(set).map_or(&[], |members| members)
    }

    fn set_of(&mut self, members: impl Iterator<Item = u32>) -> usize {
        // A route has one plugin of each kind.
        let mut few = [0; PluginKind::ALL.len()];
        let mut len = 0;
        for (slot, member) in few.iter_mut().zip(members) {
            *slot = member;
            len += 1;
        }
        let few = few.get_mut(..len).unwrap_or_default();
        few.sort_unstable();
        self.intern(few)
    }

    /// The number of a set, whose members are sorted and may repeat.
    fn intern(&mut self, members: &[u32]) -> usize {
        if let Some(&set) = self.by_members.get(members) {
            return set;
        }
        let mut members = members.to_vec();
        members.dedup();
        if let Some(&set) = self.by_members.get(&*members) {
            return set;
        }
        let members: Arc<[u32]> = members.into();
        self.members.push(members.clone());
        self.by_members.insert(members, self.members.len() - 1);
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
        let mut members = [self.members(a), self.members(b)].concat();
        members.sort_unstable();
        let set = self.intern(&members);
        self.unions.insert((a, b), set);
        set
    }
}

/// The contributions of the routes of each server name.
pub(super) struct ServerNames<'t> {
    own: Map<&'t Pattern, usize>,
    /// The wildcards among them, by the name below `*.`.
    wildcards: Map<&'t str, usize>,
    pub sets: ContributionSets,
}

impl<'t> ServerNames<'t> {
    pub fn new(
        document: &'t Document<'t>,
        scopes: &Scopes,
        plugins: &Plugins<'_>,
    ) -> ServerNames<'t> {
        let mut names = ServerNames {
            own: Map::default(),
            wildcards: Map::default(),
            sets: ContributionSets::new(),
        };
        names.own.reserve(document.routes.len());
        let global = names.sets.set_of(plugins.contributions_of(&scopes.global));
        names.add(&Pattern::Any, global);
        for (position, route) in document.routes.iter().enumerate() {
            let slots = scopes.effective(position);
            let set = names.sets.set_of(plugins.contributions_of(&slots));
            if route.snis.is_empty() {
                names.add(&Pattern::Any, set);
            }
            for pattern in &route.snis {
                names.add(pattern, set);
            }
        }
        for (_, slots) in scopes.services_without_routes() {
            let set = names.sets.set_of(plugins.contributions_of(slots));
            names.add(&Pattern::Any, set);
        }
        for (pattern, &set) in &names.own {
            if let Pattern::Wildcard(parent) = pattern {
                names.wildcards.insert(parent, set);
            }
        }
        names
    }

    fn add(&mut self, pattern: &'t Pattern, set: usize) {
        if set != 0 {
            let own = self.own.entry(pattern).or_insert(0);
            *own = self.sets.union(*own, set);
        }
    }

    /// The patterns that have contributions, sorted, with the sets of their own contributions.
    pub fn patterns(&self) -> Vec<(&'t Pattern, usize)> {
        let mut patterns: Vec<_> = self.own.iter().map(|(name, set)| (*name, *set)).collect();
        patterns.sort_unstable();
        patterns
    }

    /// The set of a pattern's own contributions.
    pub fn own(&self, pattern: &Pattern) -> usize {
        self.own.get(pattern).copied().unwrap_or(0)
    }

    /// The set of all contributions under a name: its `own`, that of its wildcard and that
    /// of `*`. Under an IP address it is that of clients without SNI.
    pub fn effective(&mut self, pattern: &Pattern, own: usize) -> usize {
        let wildcard = match pattern {
            Pattern::Exact(name) if is_address(name.as_bytes()) => self.own(&Pattern::Absent),
            Pattern::Exact(name) => parent(name.as_bytes())
                .and_then(|parent| name.get(name.len() - parent.len()..))
                .and_then(|parent| self.wildcards.get(parent).copied())
                .unwrap_or(0),
            Pattern::Wildcard(_) | Pattern::Any | Pattern::Absent => 0,
        };
        let any = self.own(&Pattern::Any);
        let set = self.sets.union(own, wildcard);
        self.sets.union(set, any)
    }
}
