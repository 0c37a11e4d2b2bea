"""What lies in a release folder beside the parcel.

Which release it is, and what else is served from it.
"""

from pydantic import BaseModel, ConfigDict, Field

PREDICT_PATHS = ("/predict", "/model/predict")
WITH = "with"  # of a prediction's query: what shall be said beside it


class Frozen(BaseModel):
    """Refuses to be changed, and fields that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Release(Frozen):
    """Which registered version a Bento serves and where it comes from; `release.json` beside the parcel."""

    product: str
    version: int = Field(ge=1)
    run_id: str = ""
    data_hash: str = ""
    code_commit: str = ""
    evidence_digest: str = ""
    parcel_digest: str
    plan_digest: str = Field("", description="SHA-256 of `service.json`, so that nobody takes it away unseen")
    max_body_bytes: int = Field(8_000_000, ge=1_000, description="a larger request is refused with 413")

    def labels(self) -> dict[str, str]:
        """What the Bento, and later the image, is labelled with."""
        names = ("product", "version", "run_id", "data_hash", "code_commit", "evidence_digest", "parcel_digest")
        return {name: str(getattr(self, name)) for name in names}


class EnsemblePlan(Frozen):
    """The weighted mean of several served models of the same contract, served as a model of its own."""

    members: tuple[str, ...] = Field(min_length=1, description="`model/version`, each served from the same folder")
    weights: tuple[float, ...] = Field((), description="one for each member, as shares of their sum; empty: equal")


class Overlay(Frozen):
    """What one tenant gets on top of the signed models that all share."""

    model: str = Field("", description="served where the tenant names no model; empty: the default")
    version: str = ""
    labels: dict[str, str] = Field({}, description="other names for nodes or classes in answers, by the model's")
    thresholds: dict[str, float] = Field({}, description="probability that a class needs to become the label")


class LoadLimits(Frozen):
    """Calibrated when the release was packaged; a setting in the environment goes before."""

    batch_window_ms: float | None = Field(None, ge=0)
    deadline_ms: float | None = Field(None, gt=0)


class ServicePlan(Frozen):
    """What a release folder serves beyond its models; `service.json`, signed like a parcel."""

    ensembles: dict[str, EnsemblePlan] = {}
    tenants: dict[str, Overlay] = {}
    limits: LoadLimits = LoadLimits()
