/* Ties django-allauth's part that talks to security keys to the page's buttons, and says in a sentence what
   went wrong. The Content-Security-Policy forbids doing so inside the page. */
(() => {
  "use strict";
  const { call, button, credential, passwordless } = document.currentScript.dataset;
  const said = document.querySelector("[data-key-error]");
  const say = (text) => { said.textContent = text; said.hidden = false; };
  document.addEventListener("allauth.error", (event) => {
    event.preventDefault();
    const name = event.detail.exception && event.detail.exception.name;
    if (name === "InvalidStateError") say("This key is enrolled already.");
    else if (name === "SecurityError") say("Keys need a host name: open the panel by its name, not by its address.");
    else if (name === "NotAllowedError") say("The key was not used in time, or is not one of yours. Try again.");
    else say("The browser could not talk to a key. Try again, or use the code of an app.");
  });
  if (!window.PublicKeyCredential) {
    document.getElementById(button).disabled = true;
    say("This browser offers no security keys here: they need https and a host name.");
    return;
  }
  const action = call === "addForm" ? "add" : call === "loginForm" ? "login" : "authenticate";
  const ids = { [action]: button, credential, passwordless, data: "js_data" };
  window.allauth.webauthn.forms[call]({ ids });
})();
