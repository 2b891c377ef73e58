// A Worker for pages that are opened from a folder, where browsers allow none: its script runs in a hidden frame.
// The search of the site asks for it by this name (`IFrameWorker` in its parent).
if (location.protocol === "file:") {
  window.Worker = window.IFrameWorker = class extends EventTarget {
    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.scope = frame.contentWindow;
      this.scope.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      this.scope.importScripts = (...all) => Promise.all(all.map((one) => this.load(one)));
      this.ready = this.load(address);
      this.ready.catch(() => this.dispatchEvent(new Event("error")));
    }
    load(address) {
      return new Promise((done, fail) => {
        const script = this.scope.document.createElement("script");
        script.async = false; // in the order in which they are asked for
        [script.src, script.onload, script.onerror] = [address, done, fail];
        this.scope.document.body.append(script);
      });
    }
    postMessage(data) {
      this.ready.then(() => this.scope.dispatchEvent(new MessageEvent("message", { data })), () => {});
    }
  };
}
