"""`kvik bench COMMAND`: a door per measurement. What they share with other measurers is in the room `kvik/bench`."""
