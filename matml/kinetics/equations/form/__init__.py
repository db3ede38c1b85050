"""How an equation is declared, and the forms that several share."""
