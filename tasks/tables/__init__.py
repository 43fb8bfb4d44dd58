"""Tables: the SQL models of the warehouse and what loads them."""
