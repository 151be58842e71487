"""The file of measurements of one machine: what `headstock tune` writes and `auto` reads."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeFloat, PositiveFloat, ValidationError

from headstock.attention.auto.costs import Cost, Terms, scaled_by
from headstock.attention.auto.model import Profile
from headstock.attention.auto.profiles import forget_read, path_of_table
from headstock.errors import InvalidConfig

__all__ = ["DeviceTable", "Measured", "device_name"]

FORMAT: Final = 1


class DeviceTable(BaseModel):
    """Coefficients of one type of device.

    Attributes:
        name: the device that was measured.
        torch_version: the torch that was measured.
        threads: how many threads torch used; the coefficients are those of one.
        scale: how many times longer than by headstock's own figures the calls took, in the median.
        rows: `Cost` fields, by the words of `model.row_of`.
        samples: how many calls each row was fitted to.
        error: the median relative error of each row over these calls.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    torch_version: str
    threads: int = Field(ge=1)
    scale: PositiveFloat = 1.0
    rows: dict[str, dict[str, NonNegativeFloat]]
    samples: dict[str, int] = {}
    error: dict[str, FiniteFloat] = {}

    def costs(self) -> dict[str, Cost]:
        """The rows as costs.

        Raises:
            InvalidConfig: a coefficient has an unknown name.
        """
        for words, row in self.rows.items():
            unknown = sorted(set(row) - set(Terms._fields))
            if unknown:
                raise InvalidConfig(
                    f"the coefficients of {words!r} must be of {', '.join(Terms._fields)}, got {unknown[0]!r}; "
                    "measure again with `headstock tune`"
                )
        return {words: Cost(**row) for words, row in self.rows.items()}


class Measured(BaseModel):
    """Everything that the file holds; nothing in it is code."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = FORMAT
    devices: dict[str, DeviceTable] = {}

    @classmethod
    def read(cls, path: Path) -> "Measured":
        """The content of the file.

        Raises:
            InvalidConfig: it cannot be read, or is of no such form.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            told = error.strerror if isinstance(error, OSError) else error.errors()[0]["msg"]
            raise InvalidConfig(
                f"the measurements in {path} must be a file that `headstock tune` wrote, got {told}; "
                "measure again with `headstock tune`, or forget them with `headstock tune --forget`"
            ) from None

    def over(self, profile: Profile, device: str, source: str) -> Profile:
        """The profile with what was measured on this type of device; rows that were not are brought to its scale.

        Raises:
            InvalidConfig: it was measured on another device, or with another version of torch.
        """
        table = self.devices.get(device)
        if table is None:
            return profile
        found = {"device": table.name, "torch": table.torch_version}
        wanted = {"device": device_name(device), "torch": torch.__version__}
        for what, value in found.items():
            if value != wanted[what]:
                raise InvalidConfig(
                    f"measurements must be of the {what} that is in use, {wanted[what]}, got {value}; "
                    "measure again with `headstock tune`"
                )
        scaled = {words: scaled_by(row, table.scale) for words, row in profile.rows.items()}
        neutral = scaled_by(profile.neutral, table.scale)
        return replace(profile, rows={**scaled, **table.costs()}, neutral=neutral, source=f"measured, {source}")

    def with_device(self, device: str, table: DeviceTable) -> "Measured":
        """The same with the measurements of one type of device replaced."""
        return self.model_copy(update={"devices": {**self.devices, device: table}})

    def save(self, path: Path | None = None) -> Path:
        """Write the file, whole or not at all, and let this process read it anew.

        Raises:
            InvalidConfig: there is no such place, or it cannot be written.
        """
        path = path or path_of_table()
        if path is None:
            raise InvalidConfig(
                "measurements must have a file to go to, got HEADSTOCK_TUNED empty; unset it, or name a file in it"
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".json", delete=False) as file:
                file.write(self.model_dump_json(indent=1))
            Path(file.name).replace(path)
        except OSError as error:
            raise InvalidConfig(
                f"measurements must go to a file that can be written, got {path}: {error.strerror}; "
                "name another one in HEADSTOCK_TUNED"
            ) from None
        forget_read()
        return path


def device_name(device: str) -> str:
    """What a device of this type is called."""
    if device == "cuda":
        return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return _processor() if device == "cpu" else device


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    # What torch makes of it decides too: the same processor may be seen with fewer instructions.
    return f"{next(named, 'CPU')} ({torch.backends.cpu.get_cpu_capability()})"
