"""`auto`: every entry that can serve a call, ranked by what it costs; the decision is kept beside the table."""

from headstock.attention.auto.costs import Cost, Terms, predicted
from headstock.attention.auto.model import Profile
from headstock.attention.auto.profiles import path_of_table, profile_of

__all__ = ["Cost", "Profile", "Terms", "path_of_table", "predicted", "profile_of"]
