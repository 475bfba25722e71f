"""Hold an audit, or an installed stack, against a policy: what is allowed, what fails, what stays open."""
