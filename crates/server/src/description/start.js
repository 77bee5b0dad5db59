// Shows the description that lies beside the page. Nobody outside is asked whether it is valid, and a key that was typed in is forgotten with the page.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#description",
  deepLinking: true,
  persistAuthorization: false,
  presets: [SwaggerUIBundle.presets.apis],
  validatorUrl: null,
});
