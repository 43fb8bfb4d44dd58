"""The endpoints, one module for each kind of thing. What they answer is made in the modules beside this folder."""
