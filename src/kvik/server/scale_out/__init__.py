"""A front end elsewhere: text -> ids (render), ids -> ids (generate), ids -> text (derender)."""
