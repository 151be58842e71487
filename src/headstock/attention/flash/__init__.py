"""Flash attention 2, 3 and 4, from packages that are found in the call."""

from headstock.attention.flash.core import flash_attention_2, flash_attention_3, flash_attention_4
from headstock.attention.flash.packages import load_flash_kernel
from headstock.attention.flash.setting import FlashSetting, active_flash_implementation

__all__ = [
    "FlashSetting",
    "active_flash_implementation",
    "flash_attention_2",
    "flash_attention_3",
    "flash_attention_4",
    "load_flash_kernel",
]
