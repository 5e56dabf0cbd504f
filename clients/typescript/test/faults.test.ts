/** Messages both ways while the service and the client processes are killed at random: each effect once, in order within its chat. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { runFaults } from "./support/faults_run.js";

test("effects happen once and in order while service and clients are killed", async (context) => {
  const seed = Number(process.env.SEED ?? Date.now() % 100_000);
  context.diagnostic(`SEED=${seed}`);
  const outcome = await runFaults({ messages: 400, kills: 6, seed });
  assert.equal(outcome.effects, 400);
});
