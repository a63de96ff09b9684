"""`Cluster`: listening sockets shared among workers, and what keeps those workers going."""
