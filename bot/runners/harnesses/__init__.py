"""One module an agent; each passes the contract suite in tests/contracts. docs/harness.md says how to add one."""
