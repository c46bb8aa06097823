// Shows the document that this agent serves. Without validatorUrl null the viewer would show it to a service elsewhere.
SwaggerUIBundle({
  url: "/api/v1/openapi.json",
  dom_id: "#docs",
  validatorUrl: null,
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
});
