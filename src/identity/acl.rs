//! Groups, and who may consume a route by them (Kong: `acl`).

/// The `acl` plugin as it applies to a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl {
    /// One of these groups is needed, unless there is none.
    pub allow: Vec<Box<str>>,
    /// None of these groups may be there.
    pub deny: Vec<Box<str>>,
    /// Kong `hide_groups_header`.
    pub hide_groups_header: bool,
    /// Kong `include_consumer_groups`.
    pub include_consumer_groups: bool,
    /// Kong `always_use_authenticated_groups`.
    pub always_use_authenticated_groups: bool,
}

impl Acl {
    /// Whether somebody of these groups may pass. Deny wins.
    pub fn allows(&self, groups: &[Box<str>]) -> bool {
        let any = |of: &[Box<str>]| groups.iter().any(|group| of.contains(group));
        !any(&self.deny) && (self.allow.is_empty() || any(&self.allow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(names: &[&str]) -> Vec<Box<str>> {
        names.iter().map(|name| (*name).into()).collect()
    }

    #[test]
    fn allows_deny_wins() {
        for (allow, deny, of, expected) in [
            (&["a"][..], &[][..], &["a", "b"][..], true),
            (&["a"], &[], &["b"], false),
            (&["a"], &[], &[], false),
            (&[], &["a"], &[], true),
            (&[], &["a"], &["a"], false),
            (&["a"], &["b"], &["a", "b"], false),
            (&["a"], &[], &["A"], false),
        ] {
            let acl = Acl {
                allow: groups(allow),
                deny: groups(deny),
                ..Acl::default()
            };
            assert_eq!(
                acl.allows(&groups(of)),
                expected,
                "{allow:?} {deny:?} {of:?}"
            );
        }
    }
}
