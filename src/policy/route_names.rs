//! What routes are called.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::hash_table::{Entry, HashTable};

/// The names of routes, and their ids, with the positions of their plans. All lie in one text: a
/// policy of 100,000 routes is freed as a few large blocks. As many small ones would keep the heap
/// they are in locked for a while, which is that of the event loop for a policy of before the fork.
#[derive(Default)]
pub struct RouteNames {
    text: String,
    /// Of each where it ends in the text, and its plan.
    names: Vec<(u32, u32)>,
    /// How many are the first ones of their routes. Behind them stand further ones.
    routes: usize,
    /// Positions in `names`, by hash.
    places: HashTable<u32>,
    hash: RandomState,
}

impl RouteNames {
    /// How many routes have one.
    pub fn len(&self) -> usize {
        self.routes
    }

    /// Whether no route has one.
    pub fn is_empty(&self) -> bool {
        self.routes == 0
    }

    /// The name of each route, or its id if it has no name, in the order of the document.
    pub fn routes(&self) -> impl Iterator<Item = &str> {
        (0..self.routes).map(|place| self.name(place))
    }

    /// The same of one route, with the position of its plan.
    pub fn get(&self, index: usize) -> Option<(&str, usize)> {
        let (_, plan) = self.names.get(index).filter(|_| index < self.routes)?;
        Some((self.name(index), *plan as usize))
    }

    /// [`RouteNames::routes`] with the positions of their plans.
    pub(super) fn with_plans(&self) -> impl Iterator<Item = (&str, usize)> {
        let plans = self.names.iter().map(|(_, plan)| *plan as usize);
        self.routes().zip(plans)
    }

    /// Position of the plan of the route that is called so.
    pub fn find(&self, name: &str) -> Option<usize> {
        let same = |&place: &u32| self.name(place as usize) == name;
        let place = self.places.find(self.hash.hash_one(name), same)?;
        let (_, plan) = self.names.get(*place as usize)?;
        Some(*plan as usize)
    }

    /// All names and ids that are found, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, usize)> {
        self.places.iter().filter_map(|&place| {
            let (_, plan) = self.names.get(place as usize)?;
            Some((self.name(place as usize), *plan as usize))
        })
    }

    pub(super) fn reserve(&mut self, routes: usize) {
        self.names.reserve(routes);
        let (text, names, hash) = (&self.text, &self.names, &self.hash);
        self.places.reserve(routes, |&place| {
            hash.hash_one(name(text, names, place as usize))
        });
    }

    /// Adds the next route, whose plan is at `plan`. The last one of a name is found.
    pub(super) fn push(&mut self, name: &str, plan: usize) {
        self.routes += 1;
        self.insert(name, plan, true);
    }

    /// Adds another name of a route behind those of all routes, unless one is called so.
    pub(super) fn alias(&mut self, name: &str, plan: usize) {
        self.insert(name, plan, false);
    }

    fn insert(&mut self, new: &str, plan: usize, replace: bool) {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (text, names, hash) = (&self.text, &self.names, &self.hash);
        let at = |place: u32| name(text, names, place as usize);
        let place = number(names.len());
        match self.places.entry(
            hash.hash_one(new),
            |&other| at(other) == new,
            |&other| hash.hash_one(at(other)),
        ) {
            Entry::Occupied(mut known) if replace => *known.get_mut() = place,
            Entry::Occupied(_) => return,
            Entry::Vacant(free) => {
                free.insert(place);
            }
        }
        self.text.push_str(new);
        self.names.push((number(self.text.len()), number(plan)));
    }

    fn name(&self, place: usize) -> &str {
        name(&self.text, &self.names, place)
    }
}

fn name<'t>(text: &'t str, names: &[(u32, u32)], place: usize) -> &'t str {
    let end = |place: usize| names.get(place).map_or(0, |(end, _)| *end as usize);
    let start = place.checked_sub(1).map_or(0, end);
    text.get(start..end(place)).unwrap_or_default()
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
    fn push_the_last_of_a_name_is_found() {
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
