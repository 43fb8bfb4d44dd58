"""Access tokens of a stand-in for Google Cloud: a service account's key, and ``/token`` that takes what it signs."""

from __future__ import annotations

import itertools
import json
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt

from tests.support.loopback import Request, Response, Route, json_response

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCOPES = {"https://www.googleapis.com/auth/cloud-platform", "https://www.googleapis.com/auth/devstorage.full_control"}


class Tokens:
    """Gives tokens for one service account, and knows those that it gave."""

    def __init__(self) -> None:
        self.given: set[str] = set()
        self.route = Route("token", "POST", "/token", self._answer)
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._numbers = itertools.count()

    def account(self, url: str) -> dict[str, Any]:
        """The service account's key as a downloaded file has it; tokens come from the server at `url`."""
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "service_account",
            "project_id": "test-project",
            "private_key_id": "key-1",
            "private_key": pem.decode(),
            "client_email": "worker@test-project.iam.gserviceaccount.com",
            "client_id": "1",
            "token_uri": f"{url}/token",
        }

    def allow(self, request: Request) -> bool:
        """Whether a request carries a token of ours."""
        return request.headers.get("authorization", "").removeprefix("Bearer ") in self.given

    def _answer(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        public = self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        try:
            claims = jwt.decode(form["assertion"], certs=public, audience="https://oauth2.googleapis.com/token")  # type: ignore[no-untyped-call]
        except (KeyError, ValueError) as error:
            return json_response({"error": "invalid_grant", "error_description": str(error)}, 400)
        if form.get("grant_type") != GRANT or not set(str(claims.get("scope", "")).split()) & SCOPES:
            return json_response({"error": "invalid_scope", "error_description": json.dumps(claims)}, 400)
        token = f"ya29.stand-in-{next(self._numbers)}"
        self.given.add(token)
        return json_response({"access_token": token, "expires_in": 3599, "token_type": "Bearer"})
