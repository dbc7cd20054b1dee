"""The built-in world: scenes, pictures, language and tiny pretrained parts."""
