//! The names and ids of routes.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::hash_table::{Entry, HashTable};

/// The names and ids of routes, each with the index of its plan.
///
/// All names are in one text, so that a policy of 100,000 routes is freed as a few large blocks.
/// Freeing that many small blocks would hold the lock of their heap for long. For a policy that was
/// made before the fork, that is the heap of the event loop.
#[derive(Default)]
pub struct RouteNames {
    text: String,
    /// For each name its end in `text`, and the index of its plan.
    names: Vec<(u32, u32)>,
    /// The number of routes. The first name of each is at the start of `names`, further names
    /// follow.
    routes: usize,
    /// Indexes of `names`, by the hash of the name.
    indexes: HashTable<u32>,
    hash: RandomState,
}

impl RouteNames {
    /// The number of routes that have a name or id.
    pub fn len(&self) -> usize {
        self.routes
    }

    /// Whether no route has a name or id.
    pub fn is_empty(&self) -> bool {
        self.routes == 0
    }

    /// Returns the name of each route, or its id if it has no name, in the order of the document.
    pub fn routes(&self) -> impl Iterator<Item = &str> {
        (0..self.routes).map(|index| self.name(index))
    }

    /// Returns the name, or the id, of the route number `index`, and the index of its plan.
    pub fn get(&self, index: usize) -> Option<(&str, usize)> {
        let (_, plan) = self.names.get(index).filter(|_| index < self.routes)?;
        Some((self.name(index), *plan as usize))
    }

    /// As [`RouteNames::routes`], with the indexes of their plans.
    pub(super) fn with_plans(&self) -> impl Iterator<Item = (&str, usize)> {
        let plans = self.names.iter().map(|(_, plan)| *plan as usize);
        self.routes().zip(plans)
    }

    /// Returns the index of the plan of the route with this name or id.
    pub fn find(&self, name: &str) -> Option<usize> {
        let same = |&index: &u32| self.name(index as usize) == name;
        let index = self.indexes.find(self.hash.hash_one(name), same)?;
        let (_, plan) = self.names.get(*index as usize)?;
        Some(*plan as usize)
    }

    /// Returns all names and ids that [`RouteNames::find`] finds, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, usize)> {
        self.indexes.iter().filter_map(|&index| {
            let (_, plan) = self.names.get(index as usize)?;
            Some((self.name(index as usize), *plan as usize))
        })
    }

    /// Reserves room for so many names.
    pub(super) fn reserve(&mut self, routes: usize) {
        self.names.reserve(routes);
        let (text, names, hash) = (&self.text, &self.names, &self.hash);
        self.indexes.reserve(routes, |&index| {
            hash.hash_one(name(text, names, index as usize))
        });
    }

    /// Adds the next route. Where several have the same name, the last one is found.
    pub(super) fn push(&mut self, name: &str, plan: usize) {
        self.routes += 1;
        self.insert(name, plan, true);
    }

    /// Adds another name of a route, after those of all routes, unless a route already has it.
    pub(super) fn alias(&mut self, name: &str, plan: usize) {
        self.insert(name, plan, false);
    }

    fn insert(&mut self, new: &str, plan: usize, replace: bool) {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (text, names, hash) = (&self.text, &self.names, &self.hash);
        let at = |index: u32| name(text, names, index as usize);
        let index = number(names.len());
        match self.indexes.entry(
            hash.hash_one(new),
            |&other| at(other) == new,
            |&other| hash.hash_one(at(other)),
        ) {
            Entry::Occupied(mut known) if replace => *known.get_mut() = index,
            Entry::Occupied(_) => return,
            Entry::Vacant(free) => {
                free.insert(index);
            }
        }
        self.text.push_str(new);
        self.names.push((number(self.text.len()), number(plan)));
    }

    fn name(&self, index: usize) -> &str {
        name(&self.text, &self.names, index)
    }
}

fn name<'t>(text: &'t str, names: &[(u32, u32)], index: usize) -> &'t str {
    let end = |index: usize| names.get(index).map_or(0, |(end, _)| *end as usize);
    let start = index.checked_sub(1).map_or(0, end);
    text.get(start..end(index)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn find_is_by_any_name() {
        let mut names = RouteNames::default();
        assert!(names.is_empty());
        assert_eq!(names.find(""), None);
        names.reserve(2);
        for (plan, name) in ["a", "bc", "", "c"].iter().enumerate() {
            names.push(name, plan + 1);
        }
        names.alias("a", 9);
        names.alias("other", 4);
        assert_eq!((names.len(), names.is_empty()), (4, false));
        assert_eq!(names.routes().collect::<Vec<_>>(), ["a", "bc", "", "c"]);
        assert_eq!(
            [1, 3, 4].map(|at| names.get(at)),
            [Some(("bc", 2)), Some(("c", 4)), None]
        );
        for (name, plan) in [
            ("a", Some(1)),
            ("bc", Some(2)),
            ("", Some(3)),
            ("c", Some(4)),
            ("other", Some(4)),
            ("b", None),
        ] {
            assert_eq!(names.find(name), plan, "{name}");
        }
        let mut all: Vec<_> = names.all().collect();
        all.sort_unstable();
        assert_eq!(all, [("", 3), ("a", 1), ("bc", 2), ("c", 4), ("other", 4)]);
    }

    #[test]
    fn push_the_last_route_of_a_name_is_found() {
        let mut names = RouteNames::default();
        names.push("a", 1);
        names.push("a", 2);
        assert_eq!(names.find("a"), Some(2));
        assert_eq!(names.routes().collect::<Vec<_>>(), ["a", "a"]);
        assert_eq!(names.all().collect::<Vec<_>>(), [("a", 2)]);
    }

    #[test]
    fn find_among_many() {
        let mut names = RouteNames::default();
        for plan in 1..10_000 {
            names.push(&format!("route-{plan}"), plan);
        }
        for plan in 1..10_000 {
            assert_eq!(names.find(&format!("route-{plan}")), Some(plan));
        }
        assert_eq!(names.find("route-0"), None);
    }
}
