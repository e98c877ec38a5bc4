// A slow and uneven computer: each answer comes late, and in its order.
{
  let state = SEED;
  const chance = () => (state = (state * 16807) % 2147483647) / 2147483647;
  const [wait, ask] = [setTimeout, fetch];
  window.setTimeout = (act, ms = 0, ...values) => wait(act, ms * (1 + chance()), ...values);
  window.fetch = (...request) => ask(...request)
    .then((answer) => new Promise((go) => wait(go, 400 * chance(), answer)));
  window.WebSocket = class extends WebSocket {
    #due = 0;
    #line = [];
    constructor(...address) {
      super(...address);
      super.addEventListener("message", (message) => {
        const gap = chance() < 0.3 ? 400 * chance() : 0;
        this.#line.push(message);
        this.#due = Math.max(this.#due, performance.now()) + gap;
        wait(() => this.#hear?.call(this, this.#line.shift()), this.#due - performance.now());
      });
    }
    #hear = null;
    set onmessage(hear) { this.#hear = hear; }
  };
}
