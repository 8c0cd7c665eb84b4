//! Refusals: rules, definitions, namespaces and fields that are missing or wrong.
