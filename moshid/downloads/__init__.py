"""Downloads that survive anything: ledger, plan, fetch, verification, publication."""
