"""Studies: leaves that nothing else imports."""
