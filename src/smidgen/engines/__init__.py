"""What runs a plan: the contract, the plan, the torch engine and the native engine."""
