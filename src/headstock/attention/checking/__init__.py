"""What a checked call looks at: the result, its gradients, and the inputs afterwards."""

from headstock.attention.checking.comparison import check_result
from headstock.attention.checking.gradients import check_gradients
from headstock.attention.checking.inputs import Watch

__all__ = ["Watch", "check_gradients", "check_result"]
