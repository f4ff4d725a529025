//! The consumer of a verified certificate, its groups, and access rules on certificates.

mod acl;
mod consumer;
mod rule;

pub use acl::Acl;
pub use consumer::{
    subject_names, Consumer, ConsumerBy, ConsumerField, ConsumerMatch, Consumers, ConsumersBuilder,
    Credential, SubjectName, SubjectNames,
};
pub use rule::{CaCondition, Condition, DecidingRule, Rule, RuleSubject, Rules, SanCondition};
