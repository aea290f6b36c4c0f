"""Front and generator together: a real model answers the `openai` client, and what people say of it is joined to it."""

from __future__ import annotations

import httpx
import openai
import pytest
from generators import THINGS, ask_for, generating, promote, stock

from loop.gateway import access
from loop.gateway.backend import Local
from loop.home import Home
from tests.gateway.fronts import feedback, serving, wait


@pytest.mark.slow
def test_a_champion_answers_a_promotion_is_followed_and_feedback_outlives_the_model(
    home: Home, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stock(home, tmp_path_factory)
    settings = home.settings
    token = access.create(
        home.state, tool="desk", workflows=["ads"], scopes=["suggest", "feedback"], purposes=["training"], author="ann"
    )
    headers = {"authorization": f"Bearer {token}"}
    with generating(settings) as generator:
        backend = Local(generator.address, settings.secret("gateway"))
        with (
            serving(settings, backend) as front,
            httpx.Client(trust_env=False) as http,
            openai.OpenAI(base_url=f"{front.url}/v1", api_key=token, http_client=http, max_retries=0) as client,
        ):
            wait(lambda: front.get("/readyz").status_code == 200, 30)
            made = client.chat.completions.create(model="ads", messages=ask_for(THINGS[0]), n=3, user="anna")  # type: ignore[arg-type]
            assert made.system_fingerprint == "m0"
            stored = front.intake.suggestion(made.id)
            assert stored is not None
            assert [c.message.content for c in made.choices] == [c.text for c in stored.candidates]
            loop = (made.model_extra or {})["loop"]
            assert loop["logprobs"] == [c.logprob for c in stored.candidates]
            assert all(logprob is not None and logprob < 0 for logprob in loop["logprobs"])
            assert 0 < loop["order_propensity"] <= 1
            assert loop["arm_propensity"] == 1.0
            assert made.usage is not None
            assert made.usage.completion_tokens > 0
            streamed = client.chat.completions.create(model="ads", messages=ask_for(THINGS[0]), stream=True)  # type: ignore[arg-type]
            assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed).endswith("paint")

            promote(home, 2, "m1", "m0")

            def version() -> str | None:
                return client.chat.completions.create(model="ads", messages=ask_for(THINGS[0])).system_fingerprint  # type: ignore[arg-type]

            wait(lambda: version() == "m1", 30)
            generator.batcher.close()
            generator.follower.close()
            told = feedback({"suggestion_id": made.id}, decision="accept", chosen=1)
            reply = front.client.post("/v1/feedback", json=told, headers=headers)
            assert reply.json()["status"] == "stored"
            event = front.event(told["event_id"])
            assert (event["model_version"], event["final_text"]) == ("m0", made.choices[1].message.content)
