"""The block that logs in at Kaggle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from prefect.blocks.core import Block
from pydantic import ConfigDict, Field, SecretStr, model_validator

if TYPE_CHECKING:
    from lookbook.blocks.kaggle_api import KaggleDatasets, Login


class KaggleCredentials(Block):
    """How to log in at Kaggle: a token, or a user name and its key.

    With neither, what the machine is logged in with is taken (KAGGLE_API_TOKEN, ~/.kaggle …), and else public datasets
    are read without any.
    """

    _block_type_name = "Lookbook Kaggle Credentials"
    _block_type_slug = "lookbook-kaggle-credentials"

    # An error would show a key that came without its user.
    model_config = ConfigDict(hide_input_in_errors=True)

    token: SecretStr | None = Field(default=None, description="API token of Kaggle's settings.")
    username: str | None = Field(default=None, description="User name, together with a key; where there is no token.")
    key: SecretStr | None = Field(default=None, description="Legacy API key of that user.")

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if bool(self.username) != bool(self.key and self.key.get_secret_value()):
            raise ValueError("username and key go together: give both, or a token, or nothing")
        return self

    def datasets(self) -> KaggleDatasets:
        """Return the calls about datasets, with these credentials.

        Raises:
            LookbookError: the extra ``kaggle`` is not installed.
        """
        from lookbook.blocks.kaggle_api import KaggleDatasets  # noqa: PLC0415 - slow, and an extra

        return KaggleDatasets(self._login())

    def _login(self) -> Login:
        from lookbook.blocks.kaggle_api import Login, login_of_machine  # noqa: PLC0415

        token, key = (secret.get_secret_value() if secret else "" for secret in (self.token, self.key))
        given = Login(token, self.username or "", key)
        return given if given.given else login_of_machine()
