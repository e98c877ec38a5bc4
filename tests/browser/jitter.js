// A slow and uneven computer: each answer comes up to 400 ms late, in its order.
{
  let state = SEED;
  const chance = () => (state = (state * 16807) % 2147483647) / 2147483647;
  const [wait, ask] = [setTimeout, fetch];
  window.setTimeout = (act, ms = 0, ...values) => wait(act, ms * (1 + chance()), ...values);
  window.fetch = async (...request) => {
    const answer = await ask(...request);
    await new Promise((go) => wait(go, 400 * chance()));
    return answer;
  };
  window.WebSocket = class extends WebSocket {
    #due = 0;
    #line = [];
    #hear = null;
    constructor(...address) {
      super(...address);
      super.addEventListener("message", (message) => {
        this.#line.push(message);
        const gap = chance() < 0.3 ? 400 * chance() : 0;
        this.#due = Math.max(this.#due, performance.now()) + gap;
        wait(() => this.#hear?.call(this, this.#line.shift()), this.#due - performance.now());
      });
    }
    get onmessage() { return this.#hear; }
    set onmessage(hear) { this.#hear = hear; }
  };
}
